"""The calibration's ConfigMap against the real API server: one write for something new, none for nothing new."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tests.cluster.handle import Handle
from tests.unit.plan.gpu_cases import long_prompts
from trimtab.config import Settings
from trimtab.kube.client import Kube
from trimtab.kube.kinds import CONFIG_MAPS
from trimtab.plan import empty
from trimtab.reconcile.calibration import KEY, Calibration, name_of

pytestmark = pytest.mark.cluster


@pytest.fixture
def settings(namespace: str) -> Settings:
    return Settings(prometheus_url="http://127.0.0.1:1", lease_namespace=namespace)


async def put(kube: Kube, settings: Settings, text: str) -> None:
    metadata = {"name": name_of(settings), "namespace": settings.lease_namespace}
    await kube.apply(CONFIG_MAPS, {"metadata": metadata, "data": {KEY: text}}, force=True)


async def stored(kube: Kube, settings: Settings) -> Any:
    held = await kube.get(CONFIG_MAPS, settings.lease_namespace, name_of(settings))
    return None if held is None else json.loads(held["data"][KEY])


async def test_what_was_learned_is_written_once_and_the_next_process_begins_with_it(
    kube: Kube, settings: Settings
) -> None:
    first = Calibration()
    assert await first.load(kube, settings, 0.0) == empty()
    await first.store(kube, settings, 0.0)
    assert await stored(kube, settings) is None

    await first.learn(iter([long_prompts()]))
    await first.store(kube, settings, 10.0)
    before = kube.writes.copy()
    for second in range(20, 2000, 100):
        await first.learn(iter([long_prompts()]))
        await first.store(kube, settings, float(second))
    assert kube.writes == before

    later = Calibration()
    state = await later.load(kube, settings, 0.0)
    assert state is not None and len(state["observations"]) == 1
    assert state == first.state == await stored(kube, settings)


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"version": 99, "observations": [1]}', '{"version": 1}'])
async def test_what_cannot_be_understood_is_begun_anew_and_said(
    kube: Kube, settings: Settings, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    await put(kube, settings, text)
    held = Calibration()
    with caplog.at_level(logging.WARNING):
        assert await held.load(kube, settings, 0.0) == empty()
    assert "cannot be understood" in caplog.text
    await held.learn(iter([long_prompts()]))
    await held.store(kube, settings, 0.0)
    assert len((await stored(kube, settings))["observations"]) == 1


async def test_the_charts_rule_lets_the_operator_create_and_change_this_object_and_no_other(
    cluster: Handle, namespace: str
) -> None:
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["trimtab-calibration"]}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "state", "namespace": namespace},
        "rules": [{**rule, "verbs": ["get", "create", "patch"]}],
    }
    cluster.apply(json.dumps(role))
    cluster.kubectl("create", "rolebinding", "state", "--role=state", "--user=somebody", namespace=namespace)

    def apply(name: str, value: str) -> str:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {KEY: value}}
        words = ("apply", "--server-side", "--as=somebody", "--filename=-")
        return cluster.kubectl(*words, namespace=namespace, stdin=json.dumps(body), check=False)

    assert "serverside-applied" in apply("trimtab-calibration", "1")
    assert "serverside-applied" in apply("trimtab-calibration", "2")
    assert "forbidden" in apply("another", "1").lower()

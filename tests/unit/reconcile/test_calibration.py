"""What the cluster taught the performance model: of which revision, and what happens when it cannot be kept."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.plan.gpu_cases import OVERLOADED, long_prompts
from tests.unit.reconcile.resources import NOW, candidate, owned, settled, snapshot, stable
from trimtab.api.v1alpha1 import Mode
from trimtab.config import Settings
from trimtab.kube.client import Kube
from trimtab.kube.errors import KubeError
from trimtab.kube.transport import Request
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Health, Severity
from trimtab.model.plan import Plan
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase
from trimtab.model.slo import Slo
from trimtab.model.verdict import Call, Verdict
from trimtab.plan import empty, learn
from trimtab.reconcile.calibration import KEY, Calibration, name_of, seen
from trimtab.reconcile.planning import consider, request_of

SETTINGS = Settings(prometheus_url="http://127.0.0.1:1", lease_namespace="trimtab-system", lease_name="main")
SERVES = stable("rev-a", maxNumSeqs=8)
LLAMA: dict[str, Any] = {
    "model": {"name": "chat", "source": "meta-llama/Llama-3.1-8B-Instruct"},
    "accelerator": {"type": "H100", "count": 1},
}
QUEUE = Bottleneck(BottleneckKind.QUEUE_BUILDUP, Severity.CRITICAL, 0.95, "56 requests wait.", {})


class Server:
    """An API server that holds one object, or none, and may be out of order."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.broken = False
        self.writes: list[Request] = []

    def send(self, request: Request) -> dict[str, Any]:
        if self.broken:
            raise KubeError(f"{request.doing}: the API server does not answer.")
        if request.method == "PATCH":
            self.writes.append(request)
            self.text = request.body["data"][KEY] if request.body else None
        return {"data": {} if self.text is None else {KEY: self.text}}

    def close(self) -> None:
        """Nothing to close."""


def kube(server: Server) -> Kube:
    return Kube(server, guard=lambda: True)


def verdict(call: Call) -> Verdict:
    return Verdict(call, Reason.WITHIN_SLO, "")


def test_stable_is_seen_once_it_has_served_a_window_alone() -> None:
    view = replace(snapshot("rev-a"), at=NOW)
    state = settled(SERVES)
    assert list(seen(state, view, None)) == [(SERVES, view)]
    assert not list(seen(replace(state, since=NOW - 10.0), view, None))
    assert not list(seen(replace(state, phase=Phase.PROMOTING), view, None))


@pytest.mark.parametrize(("call", "count"), [(Call.GOOD, 1), (Call.BAD, 1), (Call.UNKNOWN, 0)])
def test_a_canary_is_seen_when_it_is_decided_upon(call: Call, count: int) -> None:
    view = replace(snapshot("rev-b"), at=NOW)
    tried = candidate("rev-b", maxNumSeqs=64)
    state = replace(settled(SERVES), phase=Phase.CANARY_JUDGING, candidate=tried, served_at=NOW - 300.0)
    found = list(seen(state, view, verdict(call)))
    assert not list(seen(replace(state, served_at=NOW - 5.0), view, verdict(call)))
    assert [revision.config.get("maxNumSeqs") for revision, _ in found] == [64] * count


async def test_a_server_that_does_not_answer_costs_a_warning_and_is_asked_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, held = Server(), Calibration()
    server.broken = True
    async with kube(server) as client:
        assert await held.load(client, SETTINGS, 0.0) is None
        server.broken = False
        assert await held.load(client, SETTINGS, 10.0) is None, "not in every cycle"
        assert await held.load(client, SETTINGS, 400.0) == empty()
    assert "could not be read" in caplog.text


async def test_a_write_that_is_lost_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    server, held = Server(), Calibration()
    async with kube(server) as client:
        await held.load(client, SETTINGS, 0.0)
        await held.learn(iter([long_prompts()]))
        server.broken = True
        with caplog.at_level(logging.WARNING):
            await held.store(client, SETTINGS, 1.0)
        assert "could not be written" in caplog.text
        server.broken = False
        await held.store(client, SETTINGS, 2.0)
        assert not server.writes
        await held.store(client, SETTINGS, 400.0)
        await held.store(client, SETTINGS, 900.0)
    (written,) = server.writes
    assert written.body is not None and written.body["metadata"]["name"] == name_of(SETTINGS) == "main-calibration"
    assert json.loads(written.body["data"][KEY]) == held.state


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"version": 99, "observations": [1]}', "x" * 600_000])
async def test_what_cannot_be_understood_is_begun_anew_and_said(text: str, caplog: pytest.LogCaptureFixture) -> None:
    held = Calibration()
    async with kube(Server(text)) as client:
        assert await held.load(client, SETTINGS, 0.0) == empty()
    assert "cannot be understood" in caplog.text


def test_a_deployment_on_a_gpu_is_planned_by_the_model_and_teaches_it() -> None:
    deployment = owned(**LLAMA, engine={"config": {"maxNumSeqs": 8}}, tuning={"mode": "Apply"})
    view = replace(snapshot("rev-a", metrics=OVERLOADED.metrics()), at=NOW)
    state = settled(SERVES)
    taught = learn(request_of(deployment, state, SERVES, view))
    assert taught is not None and taught["observations"][0]["device"] == "H100-SXM"
    planned = consider(deployment, state, view, Health((QUEUE,)), Slo(), (), Mode.APPLY, calibration=taught)
    assert isinstance(planned.proposal, Plan) and not planned.proposal.estimated
    assert planned.wish is not None and int(planned.wish.config["maxNumSeqs"]) > 8

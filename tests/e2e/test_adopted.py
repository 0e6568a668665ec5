"""A Deployment that somebody else made: the canary is a copy beside it, a promotion touches the planned field only."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import LOAD
from tests.e2e.loadgen import restricted
from tests.e2e.manifests import BUCKETS, MODEL, Service
from tests.e2e.operator import Operator
from tests.e2e.pods import is_ready
from tests.e2e.scenario import Scenario
from tests.e2e.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.emulator, pytest.mark.slow]

_ARGUMENTS = [
    *("/models/m75", "--served-model-name", MODEL, "--port", "8000", "--max-num-seqs", "1", "--enforce-eager"),
    *("--kv-cache-memory-bytes", "512M", "--max-model-len", "1024", "--shutdown-timeout", "60", BUCKETS),
    "--emulator-startup-seconds=2",
]


def _deployment(image: str) -> dict[str, Any]:
    """The user's own, with what zero lost requests ask of it: no unavailable pod, and time to drain."""
    labels = {"app": "mine"}
    container = {
        "name": "engine",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["vllm", "serve"],
        "args": _ARGUMENTS,
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1, "timeoutSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": 8}}},
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": restricted(),
    }
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8000", "example.com/owner": "a team"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mine", "labels": labels},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {
                    "containers": [container],
                    "terminationGracePeriodSeconds": 90,
                    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                },
            },
        },
    }


_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "mine"},
    "spec": {"selector": {"app": "mine"}, "ports": [{"name": "http", "port": 8000}]},
}


@pytest.fixture(scope="module")
def adopting(stage: Callable[..., Scenario], testkit: str) -> Scenario:
    """The user's Deployment under load, with an LLMDeployment that points to it and only watches."""
    service = Service(
        name="mine",
        image="",
        config={},
        target="mine",
        mode="Observe",
        interval_seconds=5,
        window_seconds=20,
        watch_seconds=15,
        cooldown_seconds=5,
        ready_deadline_seconds=90,
        judge_deadline_seconds=120,
        minimum_requests=10,
        slo={"ttft": {"p95Milliseconds": 6000}, "itl": {"p95Milliseconds": 1000}},
        locked=("enforceEager", "kvCacheMemoryMebibytes", "maxModelLen"),
    )
    scenario = stage("adopted", service, "app=mine")
    handle = scenario.access.handle
    handle.apply(yaml.safe_dump(_SERVICE), yaml.safe_dump(_deployment(testkit)), namespace=scenario.namespace)
    until(
        "the user's pods are ready",
        lambda: sum(is_ready(pod) for pod in scenario.access.pods(scenario.namespace, "app=mine")) == 2,
        seconds=120,
    )
    scenario.create()
    scenario.start_load(testkit, LOAD)
    return scenario


def _target(scenario: Scenario) -> dict[str, Any]:
    place = f"/apis/apps/v1/namespaces/{scenario.namespace}/deployments/mine"
    return dict(scenario.access.get(place))


def _owned_by_trimtab(target: dict[str, Any]) -> dict[str, Any]:
    return next(
        (entry["fieldsV1"] for entry in target["metadata"]["managedFields"] if entry["manager"] == "trimtab"), {}
    )


def test_adopting_changes_nothing(adopting: Scenario) -> None:
    before = _target(adopting)
    adopting.until("the target is stable", lambda v: v.phase == "Stable", seconds=60)
    after = _target(adopting)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert _owned_by_trimtab(after) == {}


def test_a_promotion_changes_the_planned_argument_and_nothing_else(adopting: Scenario, operator: Operator) -> None:
    before_target = _target(adopting)
    before = adopting.until("a bottleneck is found", lambda v: bool(v.bottleneck), seconds=90)
    since = time.time()
    adopting.patch({"tuning": {"mode": "Apply"}})
    canary: list[dict[str, Any]] = []

    def sees_the_canary() -> bool:
        found = adopting.access.items(f"/apis/apps/v1/namespaces/{adopting.namespace}/deployments")
        canary.extend(item for item in found if item["metadata"]["name"] != "mine" and not canary)
        return bool(canary)

    until("the canary is there", sees_the_canary, seconds=120, say=lambda: str(adopting.view()))
    template = canary[0]["spec"]["template"]
    assert template["metadata"]["labels"]["app"] == "mine", "the user's Service must reach the canary"
    assert template["metadata"]["annotations"] == before_target["spec"]["template"]["metadata"]["annotations"]
    assert canary[0]["spec"]["replicas"] == 1

    attempt = adopting.attempt_ended(before, "Promoted", 300)
    adopting.patch({"tuning": {"mode": "Recommend"}})
    adopting.until("the target runs it", lambda v: v.phase == "Stable", seconds=120)

    target = _target(adopting)
    engine = target["spec"]["template"]["spec"]["containers"][0]
    untouched = copy.deepcopy(target["spec"])
    untouched["template"]["spec"]["containers"][0]["args"] = _ARGUMENTS
    assert untouched == before_target["spec"], "only the arguments may differ"
    changed = set(attempt.config) - set(adopting.service.locked)
    assert "maxNumSeqs" in changed
    fields = _owned_by_trimtab(target)["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"engine"}']
    assert set(fields) <= {".", "f:name", "f:args"}
    text = " ".join(engine["args"])
    assert f"--max-num-seqs={attempt.config['maxNumSeqs']}" in text.replace("--max-num-seqs ", "--max-num-seqs=")
    for kept in ("--enforce-eager", "--shutdown-timeout", BUCKETS):
        assert kept in engine["args"]

    # The canary is gone, and the pods never fell below what the user asked for.
    until(
        "the canary is gone",
        lambda: len(adopting.access.items(f"/apis/apps/v1/namespaces/{adopting.namespace}/deployments")) == 1,
        seconds=60,
    )
    assert adopting.pods.least_of_all(since) >= 2


def test_deleting_the_resource_in_a_canary_leaves_the_target_serving(adopting: Scenario) -> None:
    before = _target(adopting)
    since = time.time()
    stays = dataclasses.replace(adopting.service, config={"maxNumSeqs": 2})
    adopting.patch({"engine": {"config": dict(stays.config)}})
    adopting.until("a canary is there", lambda v: bool(v.role("Canary")), seconds=60)
    adopting.access.handle.kubectl("delete", "llmdep", "mine", namespace=adopting.namespace)
    until(
        "the canary is gone",
        lambda: len(adopting.access.items(f"/apis/apps/v1/namespaces/{adopting.namespace}/deployments")) == 1,
        seconds=120,
    )
    assert _target(adopting)["metadata"]["generation"] == before["metadata"]["generation"]
    assert adopting.pods.least("", since) >= 2
    totals = adopting.load.drain()
    assert totals.failed == 0, adopting.load.failures()

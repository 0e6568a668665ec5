"""A Deployment that somebody else made: the canary is a copy beside it, a promotion touches the planned field only."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import LOAD
from tests.e2e.loadgen import restricted
from tests.e2e.manifests import BUCKETS, MODEL, Service
from tests.e2e.pods import is_ready
from tests.e2e.scenario import Scenario
from tests.e2e.view import Attempt
from tests.e2e.waiting import until
from trimtab.render.programs import DRAIN

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
        "lifecycle": {"preStop": {"exec": {"command": ["python3", "-c", DRAIN, "--port", "8000", "--deadline", "60"]}}},
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
        judge_deadline_seconds=300,
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


def _deployments(scenario: Scenario) -> list[dict[str, Any]]:
    return scenario.access.items(f"/apis/apps/v1/namespaces/{scenario.namespace}/deployments")


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What a promotion did to the target: it as it was, the canary, what the conflict said, and it as it is."""

    before: dict[str, Any]
    canary: dict[str, Any]
    conflict: str
    at_conflict: dict[str, Any]
    attempt: Attempt
    after: dict[str, Any]
    least_ready: int


@pytest.fixture(scope="module")
def promotion(adopting: Scenario) -> Promotion:
    """Trimtab may act, but the arguments belong to the user's own field manager; then the user hands them over."""
    target = _target(adopting)
    before = adopting.until("a bottleneck is found", lambda v: v.suffers, seconds=90)
    since = time.time()
    adopting.patch({"tuning": {"mode": "Apply"}})
    adopting.until("a canary is there", lambda v: bool(v.role("Canary")), seconds=120)
    canary = next(found for found in _deployments(adopting) if found["metadata"]["name"] != "mine")
    refused = adopting.until(
        "the conflict is reported", lambda v: v.condition("Ready").reason == "FieldConflict", seconds=400
    )
    at_conflict = _target(adopting)
    adopting.patch({"targetRef": {"fieldConflicts": "Override"}})
    attempt = adopting.attempt_ended(before, "Promoted", 480)
    adopting.patch({"tuning": {"mode": "Recommend"}})
    until("the canary is gone", lambda: len(_deployments(adopting)) == 1, seconds=60)
    return Promotion(
        before=target,
        canary=canary,
        conflict=refused.condition("Ready").message,
        at_conflict=at_conflict,
        attempt=attempt,
        after=_target(adopting),
        least_ready=adopting.pods.least_of_all(since),
    )


def test_the_canary_is_a_copy_that_the_users_service_reaches(promotion: Promotion) -> None:
    template = promotion.canary["spec"]["template"]
    assert promotion.canary["spec"]["replicas"] == 1
    assert template["metadata"]["labels"]["app"] == "mine"
    assert template["metadata"]["annotations"] == promotion.before["spec"]["template"]["metadata"]["annotations"]


def test_fields_of_another_manager_are_left_to_it_and_it_is_named(promotion: Promotion) -> None:
    assert promotion.at_conflict["metadata"]["generation"] == promotion.before["metadata"]["generation"]
    assert "kubectl" in promotion.conflict
    assert "fieldConflicts" in promotion.conflict, "the next step"


def test_a_promotion_changes_the_planned_arguments_and_nothing_else(promotion: Promotion) -> None:
    spec = copy.deepcopy(promotion.after["spec"])
    engine = spec["template"]["spec"]["containers"][0]
    arguments = " ".join(engine["args"])
    assert f"--max-num-seqs={promotion.attempt.config['maxNumSeqs']}" in arguments.replace("-seqs ", "-seqs=")
    for kept in ("--enforce-eager", "--shutdown-timeout", BUCKETS):
        assert kept in engine["args"]
    engine["args"] = _ARGUMENTS
    assert spec == promotion.before["spec"]


def test_trimtab_owns_the_planned_fields_alone(promotion: Promotion) -> None:
    spec = _owned_by_trimtab(promotion.after)["f:spec"]
    assert set(spec) == {"f:template"}
    assert set(spec["f:template"]["f:spec"]) == {"f:containers"}
    fields = spec["f:template"]["f:spec"]["f:containers"]['k:{"name":"engine"}']
    assert set(fields) <= {".", "f:name", "f:args"}


def test_an_adopted_service_keeps_its_capacity_through_a_promotion(promotion: Promotion) -> None:
    assert promotion.least_ready >= 2


def test_deleting_the_resource_in_a_canary_leaves_the_target_serving(adopting: Scenario, promotion: Promotion) -> None:
    before = _target(adopting)
    since = time.time()
    adopting.patch({"engine": {"config": {"maxNumSeqs": 2}}})
    adopting.until("a canary is there", lambda v: bool(v.role("Canary")), seconds=60)
    adopting.access.handle.kubectl("delete", "llmdep", "mine", namespace=adopting.namespace)
    until("the canary is gone", lambda: len(_deployments(adopting)) == 1, seconds=120)
    assert _target(adopting)["metadata"]["generation"] == before["metadata"]["generation"]
    assert adopting.pods.least("", since) >= 2
    totals = adopting.load.drain()
    assert totals.failed == 0, adopting.load.failures()

"""What users get wrong, with a service under load: a reason, a next step, and stable pods that go on serving."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.e2e.access import LLMDEPLOYMENTS, AnswerError
from tests.e2e.loadgen import Load
from tests.e2e.manifests import Service, emulated_service
from tests.e2e.scenario import Scenario
from tests.e2e.view import View, look

pytestmark = [pytest.mark.cluster, pytest.mark.emulator, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(stage: Callable[..., Scenario], testkit: str) -> Scenario:
    """A service that is good enough, under load, and only watched by Trimtab."""
    service = dataclasses.replace(
        emulated_service("chat", testkit),
        config={"maxNumSeqs": 1, "enforceEager": True, "kvCacheMemoryMebibytes": 512, "maxModelLen": 1024},
        mode="Observe",
        # A trial that failed by its surroundings is tried again no sooner: the tests have withdrawn it by then.
        cooldown_seconds=600,
    )
    scenario = stage("input", service)
    scenario.create()
    scenario.serving(120)
    scenario.start_load(testkit, Load(clients=6, output_tokens="32"))
    return scenario


@pytest.fixture
def stable(served: Scenario) -> str:
    """The stable revision, alone and at rest."""
    revision = served.view().role("Stable")
    served.settled(revision)
    return revision


def _second(served: Scenario, name: str, target: str) -> View:
    """Another LLMDeployment in the namespace that adopts a Deployment, once Trimtab has an opinion on it."""
    service = Service(name=name, image="", config={}, target=target, mode="Observe", interval_seconds=5)
    served.access.handle.apply(service.manifest(), namespace=served.namespace)
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        view = look(served.access, served.namespace, name)
        if view.condition("Ready").status:
            return view
        time.sleep(0.5)
    raise AssertionError(f"nothing was said about {name}: {view}")


def _remove(served: Scenario, name: str) -> None:
    served.access.handle.kubectl("delete", "llmdep", name, namespace=served.namespace)


def _refused(served: Scenario, change: dict[str, Any], reason: str) -> View:
    """The view after a change of the spec that Trimtab cannot work on; then the change is taken back."""
    before = served.view()
    changed = time.time()
    spec = before.document["spec"]
    served.patch(change)
    try:
        refused = served.until(
            f"Ready=False with {reason}",
            lambda v: v.condition("Ready").reason == reason and v.condition("Ready").status == "False",
            seconds=60,
        )
        time.sleep(2 * served.service.interval_seconds)
    finally:
        served.patch({part: spec[part] for part in change})
    stable = before.role("Stable")
    assert served.pods.seen(changed) == {stable}, "a pod of another revision was made"
    assert served.pods.least(stable, changed) >= served.service.replicas
    assert refused.condition("Ready").observed_generation > before.generation
    served.until("Ready again", lambda v: v.condition("Ready").status == "True", seconds=60)
    return refused


def test_an_unknown_engine_is_named_with_those_that_are_known(served: Scenario, stable: str) -> None:
    refused = _refused(served, {"engine": {"name": "mystery"}}, "UnknownEngine")
    message = refused.condition("Ready").message
    assert "'mystery'" in message
    assert "vllm" in message
    assert refused.phase, "what was known stays visible"


def test_a_missing_target_is_named_with_what_to_do(served: Scenario) -> None:
    view = _second(served, "orphan", "not-there")
    assert view.condition("Ready").status == "False"
    assert view.condition("Ready").reason == "TargetNotFound"
    assert "'not-there'" in view.condition("Ready").message
    assert "Create it" in view.condition("Ready").message
    _remove(served, "orphan")


def test_a_target_that_another_resource_owns_is_refused_on_the_younger(served: Scenario, stable: str) -> None:
    name = served.service.name
    since = time.time()
    view = _second(served, "thief", f"{name}-{stable}")
    assert view.condition("Ready").status == "False"
    assert view.condition("Ready").reason == "TargetConflict"
    assert f"'{name}'" in view.condition("Ready").message
    assert served.view().condition("Ready").status == "True"
    _remove(served, "thief")
    assert served.pods.least(stable, since) >= served.service.replicas


def test_an_image_that_does_not_exist_is_abandoned(served: Scenario, stable: str) -> None:
    before = served.view()
    changed = time.time()
    served.patch({"engine": {"image": "trimtab.local/not-there:0"}})
    try:
        attempt = served.attempt_ended(before, "Abandoned", 150)
    finally:
        served.patch({"engine": {"image": served.service.image}})
    assert attempt.reason == "CanaryImagePull"
    assert "trimtab.local/not-there:0" in attempt.message
    condition = served.settled(stable).condition("Progressing")
    assert condition.reason == "Abandoned"
    assert "Correct spec.engine.image" in condition.message
    assert served.pods.least(stable, changed) >= served.service.replicas


def test_more_gpus_than_there_are_are_not_asked_for(served: Scenario, stable: str) -> None:
    before = served.view()
    changed = time.time()
    served.patch({"accelerator": {"resourceName": "nvidia.com/gpu", "count": 64}})
    try:
        # Where the operator may count the nodes' GPUs it does not even try; elsewhere the scheduler tells it.
        found = served.until(
            "the missing GPUs are reported",
            lambda v: "GPU" in v.condition("Progressing").message or bool(v.new_attempts(before)),
            seconds=150,
        )
    finally:
        served.patch({"accelerator": None})
    condition = found.condition("Progressing")
    assert condition.reason in {"InsufficientGPUs", "Abandoned"}
    assert "spec.accelerator" in condition.message, "the next step"
    assert {attempt.reason for attempt in found.new_attempts(before)} <= {"CanaryUnschedulable"}
    served.settled(stable)
    assert served.pods.least(stable, changed) >= served.service.replicas


def test_three_edits_in_ten_seconds_end_with_the_last_one(served: Scenario, stable: str) -> None:
    changed = time.time()
    for limit in (5, 6, 8):
        served.patch({"engine": {"config": {"maxNumSeqs": limit}}})
        time.sleep(3)
    found = served.until(
        "the last edit serves alone",
        lambda v: v.phase == "Stable" and v.stable_config.get("maxNumSeqs") == 8,
        seconds=480,
    )
    served.settled(found.role("Stable"))
    assert served.pods.least_of_all(changed) >= served.service.replicas
    ended = [attempt for attempt in found.attempts if (attempt.started_at or 0) >= changed - 1]
    assert ended[0].outcome == "Promoted"
    assert {attempt.outcome for attempt in ended[1:]} <= {"Superseded"}


def test_a_resource_deleted_in_the_middle_of_a_canary_leaves_nothing_behind(
    stage: Callable[..., Scenario], testkit: str
) -> None:
    scenario = stage("deleted", dataclasses.replace(emulated_service("gone", testkit), mode="Observe", replicas=1))
    scenario.create()
    scenario.serving(120)
    scenario.patch({"engine": {"config": {"maxNumSeqs": 2}}})
    scenario.until("a canary is there", lambda v: bool(v.role("Canary")), seconds=60)
    place = LLMDEPLOYMENTS.format(namespace=scenario.namespace)
    scenario.access.request("DELETE", f"{place}/gone", query={"propagationPolicy": "Background"})
    deployments = f"/apis/apps/v1/namespaces/{scenario.namespace}/deployments"
    ends = time.monotonic() + 120
    while scenario.access.items(deployments) or scenario.access.pods(scenario.namespace):
        assert time.monotonic() < ends, "Deployments or pods are left"
        time.sleep(1)
    with pytest.raises(AnswerError, match="404"):
        scenario.view()
    # Nothing of it lives on in the operator: the same name can be used again.
    scenario.access.handle.apply(yaml.safe_dump(scenario.service.document()), namespace=scenario.namespace)
    assert scenario.serving(120).attempts == []


def test_not_one_request_was_lost_to_bad_input(served: Scenario) -> None:
    totals = served.load.drain()
    served.load.change(state="running")
    assert totals.failed == 0, served.load.failures()
    assert totals.sent > 100

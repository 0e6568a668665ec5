"""Live values: the same pods serve with other limits, judged and taken back like any other change, and lose nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.e2e.loadgen import Load, Totals
from tests.e2e.manifests import emulated_service
from tests.e2e.scenario import Scenario, selector
from tests.e2e.view import Attempt

pytestmark = [pytest.mark.cluster, pytest.mark.emulator, pytest.mark.slow, pytest.mark.long]

# Sixteen clients of two pods: six of each run at once where they may, and wait for each other where they may not.
LOAD = Load(clients=16, prompt_tokens="64", output_tokens="32")
FIRST, BETTER, HARMFUL = 4, 12, 1


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a change came to: the trial, the pods after it (uid -> running requests that may be), and the requests."""

    attempt: Attempt
    limits: dict[str, float]
    totals: Totals
    strategy: str
    seconds: float

    @property
    def in_force_after(self) -> float:
        """Seconds from the beginning of the trial until the canary's engine was known to have the values."""
        return (self.attempt.served_at or 0.0) - (self.attempt.started_at or 0.0)


@dataclass(frozen=True, kw_only=True)
class Story:
    """The pods before anything changed, and what two changes came to."""

    before: dict[str, float]
    better: Seen
    harmful: Seen
    deployments: int


def limits(scenario: Scenario) -> dict[str, float]:
    """What each engine itself says of the requests that may run."""
    found = {}
    for pod in scenario.access.pods(scenario.namespace, selector(scenario.service.name)):
        name = pod["metadata"]["name"]
        status = scenario.access.through_pod(scenario.namespace, name, 8000, "/v1/optimization/status")
        assert status["in_force"], status
        found[pod["metadata"]["uid"]] = float(status["limits"]["max_running_requests"])
    return found


def changed(scenario: Scenario, value: int, outcome: str) -> Seen:
    """The user sets the limit; until the trial has ended and every pod has what is stable then."""
    before, began = scenario.view(), time.monotonic()
    scenario.patch({"engine": {"config": {"maxNumActiveSeqs": value}}})
    attempt = scenario.attempt_ended(before, outcome, 150)
    scenario.until("nothing moves", lambda view: view.phase == "Stable", seconds=30)
    rollout: dict[str, Any] = dict(scenario.view().status["rollout"])
    return Seen(
        attempt=attempt,
        limits=limits(scenario),
        totals=scenario.load.totals(),
        strategy=str(rollout["strategy"]),
        seconds=time.monotonic() - began,
    )


@pytest.fixture(scope="module")
def story(stage: Callable[..., Scenario], testkit: str) -> Story:
    """A limit that is raised, and one that harms."""
    base = emulated_service("chat", testkit)
    service = replace(
        base,
        engine="trimtab",
        version="0.1.0",
        config={**base.config, "maxNumSeqs": 32, "maxNumActiveSeqs": FIRST},
        mode="Observe",
        slo={"ttft": {"p95Milliseconds": 2500}, "errorRatePermille": 10},
        watch_seconds=5,
    )
    scenario = stage("live", service)
    scenario.create()
    scenario.serving(120)
    scenario.start_load(testkit, LOAD)
    scenario.until("the first revision is stable", lambda view: view.phase == "Stable", seconds=60)
    before = limits(scenario)
    better = changed(scenario, BETTER, "Promoted")
    harmful = changed(scenario, HARMFUL, "RolledBack")
    scenario.patch({"engine": {"config": {"maxNumActiveSeqs": BETTER}}})
    scenario.load.drain()
    deployments = scenario.access.handle.get("deployments", namespace=scenario.namespace)["items"]
    for seen in (better, harmful):
        told = {"outcome": seen.attempt.outcome, "seconds": seen.seconds, "in force after": seen.in_force_after}
        print(json.dumps(told))
    return Story(before=before, better=better, harmful=harmful, deployments=len(deployments))


def test_the_pods_that_ran_before_have_the_new_limit(story: Story) -> None:
    assert set(story.before.values()) == {FIRST}
    assert story.better.strategy == "Live"
    assert story.better.limits == dict.fromkeys(story.before, float(BETTER)), "the same pods, all with the new limit"
    assert story.deployments == 1


def test_a_harmful_limit_is_judged_and_taken_back_from_the_same_pods(story: Story) -> None:
    assert story.harmful.strategy == "Live"
    assert story.harmful.attempt.reason in {"SLORegression", "WorseThanStable"}
    assert story.harmful.limits == dict.fromkeys(story.before, float(BETTER))


def test_no_request_is_lost(story: Story) -> None:
    assert story.harmful.totals.failed == 0, story.harmful.totals
    assert story.harmful.totals.succeeded > 100

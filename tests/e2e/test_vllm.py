"""The loop with real vLLM on the CPU, as short as can be: one replica, one plan, one change that cannot start."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.e2e.loadgen import Load, Window
from tests.e2e.manifests import vllm_service
from tests.e2e.scenario import Scenario, Trial
from tests.e2e.view import Attempt

pytestmark = [pytest.mark.cluster, pytest.mark.vllm, pytest.mark.slow]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What the plan made of the service."""

    scenario: Scenario
    before: Window
    after: Window
    attempt: Attempt
    least_ready: int


def _measured(scenario: Scenario, seconds: float) -> Window:
    since = scenario.load.now()
    time.sleep(seconds)
    return scenario.load.window(since)


@pytest.fixture(scope="module")
def tuned(stage: Callable[..., Scenario], image: Callable[[str], str], testkit: str) -> Tuned:
    """One pod with a limit of one sequence under sixteen clients, until its plan is promoted."""
    service = dataclasses.replace(
        vllm_service("chat", image("engine-demo")), replicas=1, interval_seconds=10, window_seconds=40, watch_seconds=20
    )
    scenario = stage("vllm", service)
    scenario.create(tuning={"mode": "Observe"})
    scenario.serving(300)
    scenario.start_load(testkit, Load(clients=16))
    time.sleep(10)
    before = _measured(scenario, 30)
    diagnosed = scenario.until("a bottleneck is found", lambda view: bool(view.bottleneck), seconds=90)
    began = time.time()
    scenario.patch({"tuning": {"mode": "Apply"}})
    attempt = scenario.attempt_ended(diagnosed, "Promoted", 500)
    scenario.settled(attempt.revision)
    scenario.patch({"tuning": {"mode": "Recommend"}})
    return Tuned(
        scenario=scenario,
        before=before,
        after=_measured(scenario, 30),
        attempt=attempt,
        least_ready=scenario.pods.least_of_all(began),
    )


@pytest.fixture(scope="module")
def broken(tuned: Tuned) -> Trial:
    """The user sets a block size that this engine refuses on a CPU, while it loads."""
    return tuned.scenario.spoil({"blockSize": 16}, "Abandoned", 300)


def test_real_vllm_becomes_several_times_faster(tuned: Tuned) -> None:
    assert tuned.attempt.source == "Plan"
    assert tuned.after.output_tokens_per_s >= 2 * tuned.before.output_tokens_per_s
    assert tuned.least_ready >= 1


def test_real_vllm_that_refuses_to_start_is_abandoned(broken: Trial) -> None:
    assert broken.attempt.reason == "CanaryCrashLoop"
    assert broken.served_at is None
    assert broken.stable_min_ready >= 1


def test_not_one_request_to_real_vllm_was_lost(broken: Trial, tuned: Tuned) -> None:
    totals = tuned.scenario.load.drain()
    assert totals.failed == 0, tuned.scenario.load.failures()
    assert totals.sent > 50

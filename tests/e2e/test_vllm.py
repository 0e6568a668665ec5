"""The loop with real vLLM on the CPU, as short as can be: one replica, one plan, one change that cannot start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.e2e.loadgen import Load
from tests.e2e.manifests import vllm_service
from tests.e2e.scenario import Scenario, Trial
from tests.e2e.tuned import Patience, Tuned, tune

pytestmark = [pytest.mark.cluster, pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture(scope="module")
def tuned(stage: Callable[..., Scenario], image: Callable[[str], str], testkit: str) -> Tuned:
    """One pod with a limit of one sequence under sixteen clients, until its plan is promoted."""
    service = dataclasses.replace(
        vllm_service("chat", image("engine-demo")), replicas=1, interval_seconds=10, window_seconds=40, watch_seconds=20
    )
    patience = Patience(start=300, window=30, diagnosis=90, trial=1200)
    return tune(stage("vllm", service), testkit, Load(clients=16), patience)


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

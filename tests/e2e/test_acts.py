"""The three acts with the engine emulator, and what the operator writes while nothing happens.

Each fixture is one act; a test looks at what came of it. So every test can be run by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.cluster.audit import AuditLog
from tests.e2e.conftest import LOAD
from tests.e2e.operator import Operator
from tests.e2e.scenario import Scenario, Trial
from tests.e2e.tuned import Patience, Tuned, tune

pytestmark = [pytest.mark.cluster, pytest.mark.emulator, pytest.mark.slow]


@pytest.fixture(scope="module")
def tuned(stage: Callable[..., Scenario], testkit: str) -> Tuned:
    """Act 1: a limit of one sequence, found and raised."""
    patience = Patience(start=120, window=15, diagnosis=90, trial=480)
    return tune(stage("acts"), testkit, LOAD, patience)


@pytest.fixture(scope="module")
def harmed(tuned: Tuned) -> Trial:
    """Act 2: the user sets the limit back to two sequences."""
    return tuned.scenario.spoil({"maxNumSeqs": 2}, "RolledBack", 240)


@pytest.fixture(scope="module")
def broken(tuned: Tuned, harmed: Trial) -> Trial:
    """Act 3: the user sets a block size that the engine refuses while it loads."""
    return tuned.scenario.spoil({"blockSize": 16}, "Abandoned", 180)


def test_the_bottleneck_is_named_with_its_numbers(tuned: Tuned) -> None:
    findings = tuned.diagnosed.status["findings"]
    assert tuned.diagnosed.bottleneck in {"QueueBuildup", "BatchSizeSuboptimal", "HighLatency", "LowThroughput"}
    assert findings[0]["kind"] == tuned.diagnosed.bottleneck
    assert any(character.isdigit() for character in findings[0]["message"])


def test_the_plan_is_promoted_and_the_service_is_several_times_faster(tuned: Tuned) -> None:
    assert tuned.attempt.source == "Plan"
    assert tuned.view.stable_config["maxNumSeqs"] > 1
    assert tuned.after.output_tokens_per_s >= 2 * tuned.before.output_tokens_per_s
    assert tuned.before.ttft_p95_ms is not None
    assert tuned.after.ttft_p95_ms is not None
    assert tuned.after.ttft_p95_ms <= tuned.before.ttft_p95_ms / 2


def test_capacity_stays_at_its_floor_while_replicas_move(tuned: Tuned) -> None:
    assert tuned.least_ready >= tuned.scenario.service.replicas


def test_the_plan_is_an_object_that_belongs_to_the_resource(tuned: Tuned) -> None:
    scenario = tuned.scenario
    plans = scenario.access.handle.get("optplan", namespace=scenario.namespace)["items"]
    owners = {owner["name"] for plan in plans for owner in plan["metadata"]["ownerReferences"]}
    assert owners == {scenario.service.name}


def test_the_plan_says_what_was_measured_beside_what_was_predicted(tuned: Tuned) -> None:
    scenario = tuned.scenario
    plans = scenario.access.handle.get("optplan", namespace=scenario.namespace)["items"]
    # Another plan may have begun before the mode was set back.
    steps = [(plan["status"], step) for plan in plans for step in (plan.get("status") or {}).get("steps") or []]
    [(tried, step)] = [found for found in steps if found[1]["revision"] == tuned.attempt.revision]
    assert (tried["phase"], step["outcome"]) == ("Promoted", "Promoted"), tried
    assert tried["conditions"][0]["status"] == "True", tried
    effects = {effect["metric"]: effect for effect in step["effects"]}
    assert "predictedPermille" in effects["throughput"], effects
    assert effects["ttft"]["measuredPermille"] < 1000, "the canary answered faster than stable beside it"


def test_describe_reads_like_a_report(tuned: Tuned) -> None:
    scenario = tuned.scenario
    text = scenario.access.handle.kubectl("describe", "llmdep", scenario.service.name, namespace=scenario.namespace)
    assert tuned.attempt.message in text
    assert "Promoted" in text


def test_a_harmful_change_of_the_user_is_rolled_back(harmed: Trial, tuned: Tuned) -> None:
    assert harmed.attempt.outcome == "RolledBack"
    assert harmed.attempt.source == "User"
    assert harmed.attempt.message
    assert harmed.stable_min_ready >= tuned.scenario.service.replicas


def test_the_rollback_is_decided_by_what_was_measured_and_waits_for_no_deadline(harmed: Trial) -> None:
    """How many intervals it takes is a bar of the demo's, which is measured on a machine that does nothing else."""
    assert harmed.attempt.reason in {"SLORegression", "WorseThanStable"}
    assert harmed.served_at is not None


def test_a_change_that_cannot_start_is_abandoned_with_the_engines_words(broken: Trial) -> None:
    assert broken.attempt.outcome == "Abandoned"
    assert broken.attempt.reason == "CanaryCrashLoop"
    assert "exit code 1" in broken.attempt.message
    # The root cause stands too far above the end of the engine's log for the kubelet's termination message.
    assert "Engine core initialization failed" in broken.attempt.message
    assert broken.served_at is None


def test_a_change_that_cannot_start_takes_no_stable_pod_away(broken: Trial, tuned: Tuned) -> None:
    assert broken.stable_min_ready >= tuned.scenario.service.replicas


def test_steady_traffic_leads_to_no_write_but_the_lease(
    broken: Trial, tuned: Tuned, operator: Operator, audit_log: AuditLog
) -> None:
    scenario = tuned.scenario
    scenario.settled(scenario.view().role("Stable"))
    time.sleep(3 * scenario.service.window_seconds)  # the windows that still hold the last trial, and a mood to settle
    # On a busy machine the traffic is not always steady, and what is found in it may change once or twice.
    periods = []
    for _ in range(4):
        since = audit_log.now()
        time.sleep(6 * scenario.service.interval_seconds)
        writes = audit_log.writes(since=since, user=operator.user, agent="trimtab")
        leases = [write for write in writes if (write.resource, write.name) == ("leases", operator.lease)]
        assert leases, "the audit log holds not even the lease's renewal"
        others = [write.what for write in writes if write.namespace == scenario.namespace]
        assert set(others) <= {f"patch llmdeployments/status {scenario.namespace}/{scenario.service.name}"}
        periods.append(others)
        if not others:
            break
    assert periods[-1] == [], periods


def test_not_one_request_was_lost(broken: Trial, tuned: Tuned) -> None:
    totals = tuned.scenario.load.drain()
    assert totals.failed == 0, tuned.scenario.load.failures()
    assert totals.sent == totals.succeeded
    assert totals.sent > 100
    tuned.scenario.load.change(state="running")

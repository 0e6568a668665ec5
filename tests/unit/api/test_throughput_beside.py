"""Throughput before a trial and after its promotion, where the load lets the two be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.api.test_plan_results import NAME, PLAN, PROMOTED, SERVES, TRIED
from tests.unit.reconcile.resources import NOW, settled, stable
from trimtab.api.convert import PlanFacts, plan_status
from trimtab.api.throughput import Carried, ratio, with_after, with_before
from trimtab.api.v1alpha1.plan import PlanStatus
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, RolloutState

BEFORE = Carried(tokens=260.0, pods=2.0, waiting=28.0, prompt=64.0, output=64.0)
AFTER = Carried(tokens=1380.0, pods=2.0, waiting=0.0, prompt=66.0, output=63.0)


def written(document: dict[str, Any], state: RolloutState, carried: Carried | None) -> dict[str, Any]:
    """The plan as the next cycle finds it."""
    facts = PlanFacts(state=state, current=True, approved=False, awaits=False, carried=carried)
    status = plan_status(document, facts, NOW)
    PlanStatus.model_validate(status)
    return {**document, "status": status}


def trial(phase: Phase) -> RolloutState:
    return replace(
        settled(SERVES), phase=phase, candidate=TRIED, started_at=PROMOTED.started_at, served_at=PROMOTED.served_at
    )


def effect(document: dict[str, Any]) -> dict[str, Any]:
    (step,) = document["status"]["steps"]
    return dict(next(item for item in step["effects"] if item["metric"] == "throughput"))


def run(before: Carried | None, after: Carried | None, **ended: Any) -> dict[str, Any]:
    document = written(PLAN, trial(Phase.CANARY_STARTING), before)
    document = written(document, trial(Phase.CANARY_JUDGING), None)
    watched = replace(trial(Phase.WATCHING), stable=stable("rev-b", maxNumSeqs=32), previous=SERVES)
    document = written(document, watched, after)
    done = replace(settled(stable("rev-b", maxNumSeqs=32)), attempts=(replace(PROMOTED, **ended),))
    return written(document, done, after)


def test_after_a_promotion_throughput_stands_beside_its_prediction() -> None:
    document = run(BEFORE, AFTER)
    assert effect(document)["measuredPermille"] == 5308
    (step,) = document["status"]["steps"]
    assert step["measured"]["before.outputTokensPerSecond"] == 260.0
    assert step["measured"]["after.outputTokensPerSecond"] == 1380.0
    assert step["measured"]["canary.ttft.mean"] == 0.3
    assert document["metadata"]["name"] == NAME


def test_what_was_written_stays_when_a_restarted_operator_writes_again() -> None:
    document = run(BEFORE, AFTER)
    done = replace(settled(stable("rev-b", maxNumSeqs=32)), attempts=(PROMOTED,))
    assert written(document, done, None) == document
    assert written(document, done, BEFORE) == document


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (None, AFTER, "not recorded"),
        (BEFORE, None, "not recorded"),
        (replace(BEFORE, waiting=1.0), AFTER, "followed the load"),
        (BEFORE, replace(AFTER, prompt=640.0), "mean prompt and output tokens 64 -> 640"),
        (BEFORE, replace(AFTER, tokens=100.0), "Fewer requests came"),
    ],
)
def test_where_the_load_does_not_allow_it_the_reason_is_told(
    before: Carried | None, after: Carried | None, why: str
) -> None:
    found = effect(run(before, after))
    assert "measuredPermille" not in found
    assert why in found["unmeasured"]


def test_a_loss_behind_a_queue_is_shown() -> None:
    assert effect(run(BEFORE, replace(AFTER, tokens=130.0, waiting=40.0)))["measuredPermille"] == 500


def test_a_trial_that_was_taken_back_has_no_throughput() -> None:
    found = effect(run(BEFORE, None, outcome=Reason.ROLLED_BACK))
    assert "measuredPermille" not in found and "unmeasured" not in found


def test_figures_of_an_earlier_trial_of_the_step_are_not_taken() -> None:
    document = run(BEFORE, AFTER)
    again = replace(trial(Phase.WATCHING), started_at=NOW - 10.0)
    (step,) = written(document, again, None)["status"]["steps"]
    assert "measured" not in step


def test_figures_are_written_once_and_again_only_when_they_move() -> None:
    begun = with_before({}, BEFORE)
    assert with_before(begun, replace(BEFORE, tokens=900.0)) == begun
    watched = with_after(begun, AFTER)
    assert with_after(watched, replace(AFTER, tokens=1400.0)) == watched
    moved = with_after(watched, replace(AFTER, tokens=1600.0))
    assert ratio(moved) == pytest.approx(1600 / 260)

"""What came of a plan: the phase, the condition, and the measured effect beside the predicted one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.reconcile.resources import NOW, settled, stable
from trimtab.api.convert import PlanFacts, plan_status
from trimtab.api.v1alpha1.plan import PlanStatus
from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.model.rollout import Attempt, Candidate, Phase, RolloutState, Source

NAME = "chat-12345678"
PLAN: dict[str, Any] = {
    "metadata": {"name": NAME, "generation": 1},
    "spec": {
        "optimizations": [
            {
                "effects": [
                    {"metric": "throughput", "ratioPermille": 4000, "lowPermille": 2000, "highPermille": 8000},
                    {"metric": "ttft", "ratioPermille": 100, "lowPermille": 20, "highPermille": 500},
                    {"metric": "itl", "ratioPermille": 1800, "lowPermille": 1200, "highPermille": 3000},
                ]
            },
            {"effects": []},
        ]
    },
}
SERVES = stable("rev-a", maxNumSeqs=1)
TRIED = Candidate("rev-b", EngineConfig({"maxNumSeqs": 32}), "t1", Source.PLAN, plan=NAME)
PROMOTED = Attempt(
    revision="rev-b",
    config=TRIED.config,
    source=Source.PLAN,
    plan=NAME,
    step=0,
    outcome=Reason.PROMOTED,
    reason=Reason.WITHIN_SLO,
    message="All targets are met.",
    started_at=NOW - 300.0,
    served_at=NOW - 250.0,
    decided_at=NOW - 200.0,
    ended_at=NOW - 100.0,
    measured={
        "canary.ttft.mean": 0.3,
        "stable.ttft.mean": 2.4,
        "canary.itl.p95": 0.018,
        "stable.itl.p95": 0.012,
        "canary.throughput.mean": 3.0,
        "stable.throughput.mean": 1.0,
    },
)


def status(
    state: RolloutState, *, document: dict[str, Any] = PLAN, current: bool = True, approved: bool = False, **more: bool
) -> dict[str, Any]:
    facts = PlanFacts(state=state, current=current, approved=approved, awaits=more.get("awaits", False))
    found = plan_status(document, facts, NOW)
    PlanStatus.model_validate(found)  # it is what the resource has fields for
    return found


def concluded(found: dict[str, Any]) -> tuple[str, str]:
    (condition,) = found["conditions"]
    assert condition["type"] == "Concluded"
    return condition["status"], condition["reason"]


@pytest.mark.parametrize(
    ("current", "awaits", "phase", "condition"),
    [
        (True, False, "Proposed", ("False", "PlanProposed")),
        (True, True, "AwaitingApproval", ("False", "AwaitingApproval")),
        (False, False, "Superseded", ("True", "Superseded")),
        (False, True, "Superseded", ("True", "Superseded")),
    ],
)
def test_an_untried_plan_says_what_it_waits_for(
    current: bool, awaits: bool, phase: str, condition: tuple[str, str]
) -> None:
    found = status(settled(SERVES), current=current, awaits=awaits)
    assert found["phase"] == phase
    assert concluded(found) == condition
    assert found["steps"] == []


def test_a_step_on_trial_has_a_revision_and_no_outcome() -> None:
    state = replace(
        settled(SERVES), phase=Phase.CANARY_JUDGING, candidate=TRIED, started_at=NOW - 60.0, served_at=NOW - 20.0
    )
    found = status(state)
    (step,) = found["steps"]
    assert found["phase"] == "Trying"
    assert concluded(found) == ("False", "CanaryJudging")
    assert (step["revision"], step.get("outcome"), step["reason"]) == ("rev-b", None, "CanaryJudging")
    assert step["servedAt"] > step["startedAt"]
    assert all("measuredPermille" not in effect for effect in step["effects"])


def test_what_was_measured_stands_beside_what_was_predicted() -> None:
    found = status(settled(SERVES, attempts=(PROMOTED,)))
    (step,) = found["steps"]
    effects = {effect["metric"]: effect for effect in step["effects"]}
    assert found["phase"] == "Promoted"
    assert concluded(found) == ("True", "Promoted")
    assert (step["outcome"], step["reason"]) == ("Promoted", "WithinSLO")
    assert (effects["ttft"]["predictedPermille"], effects["ttft"]["measuredPermille"]) == (100, 125)
    assert effects["itl"]["measuredPermille"] == 1500, "by the p95 where the means are not known"
    assert "measuredPermille" not in effects["throughput"], "side by side it says nothing"
    assert step["startedAt"] < step["servedAt"] < step["decidedAt"] < step["endedAt"]


def test_the_newest_trial_of_a_step_is_what_is_told() -> None:
    failed = replace(
        PROMOTED,
        outcome=Reason.ROLLED_BACK,
        reason=Reason.DEADLINE_EXCEEDED,
        started_at=NOW - 900.0,
        measured={},
        served_at=None,
    )
    assert status(settled(SERVES, attempts=(PROMOTED, failed)))["phase"] == "Promoted"
    assert status(settled(SERVES, attempts=(failed,)))["phase"] == "RolledBack"


def test_what_was_said_outlives_the_bounded_history_and_an_approval_the_next_one() -> None:
    said = status(settled(SERVES, attempts=(PROMOTED,)), approved=True)
    assert said["approved"]
    later = status(settled(SERVES), document={**PLAN, "status": said}, current=False)
    assert later == said


def test_trials_of_others_say_nothing_about_it() -> None:
    others = (replace(PROMOTED, plan="chat-00000000"), replace(PROMOTED, plan="", source=Source.USER))
    state = replace(settled(SERVES, attempts=others), phase=Phase.PROMOTING, candidate=replace(TRIED, plan="chat-0"))
    assert status(state)["phase"] == "Proposed"

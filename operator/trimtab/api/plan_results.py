"""What came of a plan, as the status of its OptimizationPlan: the measured effect of a step beside the predicted one.

Status is derived from the rollout's persisted state, so a restarted operator writes the same again. Steps whose trial
has fallen out of the bounded history stay as they were written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.api import throughput
from trimtab.api.conditions import cut, set_condition
from trimtab.api.instants import to_rfc3339
from trimtab.api.plans import milli
from trimtab.api.throughput import Carried
from trimtab.model.plan import Metric
from trimtab.model.reason import Reason
from trimtab.model.rollout import Attempt, Candidate, Phase, RolloutState

_TEXT = 4096
_NUMBERS = 64  # as many as the resource has room for
_MEASURED = frozenset({Metric.TTFT, Metric.ITL, Metric.E2E})


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What is known about one plan now. `current`: the newest proposal; `approved`: spec.tuning.approvedPlan names it;
    `awaits`: a person must approve it before it is tried. `carried`: what the one revision carries that serves alone,
    in the phases before a canary serves and after it was promoted.
    """

    state: RolloutState
    current: bool
    approved: bool
    awaits: bool
    carried: Carried | None = None


def plan_status(document: Mapping[str, Any], facts: PlanFacts, now: float) -> dict[str, Any]:
    """The status of a whole OptimizationPlan. `now`: seconds since the epoch, for a condition that changes."""
    name, before = document["metadata"]["name"], document.get("status") or {}
    state, steps = facts.state, {int(step["step"]): dict(step) for step in before.get("steps") or []}
    predicted = [step.get("effects") or [] for step in document["spec"]["optimizations"]]
    for attempt in reversed(state.attempts):  # the newest last, so that it is what is told
        if attempt.plan == name and attempt.step < len(predicted):
            before_it = _of_this_trial(steps.get(attempt.step), attempt.revision, attempt.started_at)
            steps[attempt.step] = _ended(attempt, predicted[attempt.step], before_it)
    candidate = state.candidate if state.phase is not Phase.STABLE else None
    running = candidate is not None and candidate.plan == name and candidate.step < len(predicted)
    if candidate is not None and running:
        before_it = _of_this_trial(steps.get(candidate.step), candidate.revision, state.started_at)
        steps[candidate.step] = _running(candidate, facts, predicted[candidate.step], before_it)
    last = max(steps.values(), key=lambda step: str(step.get("startedAt") or ""), default=None)
    phase, concluded, reason, message = _told(facts, last, running=running)
    return {
        "phase": phase,
        "approved": facts.approved or bool(before.get("approved")),
        "conditions": set_condition(
            before.get("conditions") or [],
            "Concluded",
            status=concluded,
            reason=reason,
            message=message,
            generation=int(document["metadata"].get("generation") or 1),
            now=now,
        ),
        "steps": [steps[number] for number in sorted(steps)],
    }


def _told(facts: PlanFacts, last: Mapping[str, Any] | None, *, running: bool) -> tuple[str, bool, str, str]:
    """The phase, and the condition Concluded: status, reason, message."""
    if last is not None and running:
        return "Trying", False, str(last["reason"]), f"Revision {last['revision']} is on trial."
    if last is not None:
        return str(last["outcome"]), True, str(last["outcome"]), str(last["message"])
    if not facts.current:
        message = "A newer proposal has taken its place, or there is nothing to improve any more; it was not tried."
        return "Superseded", True, Reason.SUPERSEDED.value, message
    if facts.awaits:
        message = "It is tried once spec.tuning.approvedPlan of its LLMDeployment holds its name."
        return "AwaitingApproval", False, Reason.AWAITING_APPROVAL.value, message
    return "Proposed", False, Reason.PLAN_PROPOSED.value, "It has not been tried."


def _of_this_trial(step: Mapping[str, Any] | None, revision: str, started_at: float) -> Mapping[str, float]:
    """What was measured of the same trial, as it was written before."""
    if step is None or step.get("revision") != revision or step.get("startedAt") != to_rfc3339(started_at):
        return {}
    return dict(step.get("measured") or {})


def _ended(attempt: Attempt, predicted: list[Mapping[str, Any]], before: Mapping[str, float]) -> dict[str, Any]:
    measured = dict([*throughput.kept(before).items(), *attempt.measured.items()][:_NUMBERS])
    alone = attempt.outcome is Reason.PROMOTED
    step: dict[str, Any] = {
        "step": attempt.step,
        "revision": attempt.revision,
        "outcome": attempt.outcome.value,
        "reason": attempt.reason.value,
        "message": cut(attempt.message, _TEXT),
        "startedAt": to_rfc3339(attempt.started_at),
        "decidedAt": to_rfc3339(attempt.decided_at),
        "endedAt": to_rfc3339(attempt.ended_at),
        "effects": [_beside(effect, measured, alone=alone) for effect in predicted],
        "measured": measured,
    }
    if attempt.served_at is not None:
        step["servedAt"] = to_rfc3339(attempt.served_at)
    return {key: value for key, value in step.items() if value not in ({}, [])}


def _running(
    candidate: Candidate, facts: PlanFacts, predicted: list[Mapping[str, Any]], before: Mapping[str, float]
) -> dict[str, Any]:
    state = facts.state
    measured = throughput.kept(before)
    if state.phase is Phase.CANARY_STARTING:
        measured = throughput.with_before(before, facts.carried)
    elif state.phase is Phase.WATCHING:
        measured = throughput.with_after(before, facts.carried)
    step: dict[str, Any] = {
        "step": candidate.step,
        "revision": candidate.revision,
        "reason": state.phase.value,
        "startedAt": to_rfc3339(state.started_at),
        "effects": [_beside(effect, {}) for effect in predicted],
        "measured": measured,
    }
    if state.served_at is not None:
        step["servedAt"] = to_rfc3339(state.served_at)
    return {key: value for key, value in step.items() if value not in ({}, [])}


def _beside(effect: Mapping[str, Any], measured: Mapping[str, float], *, alone: bool = False) -> dict[str, Any]:
    """A predicted ratio and the measured one: of a latency what canary and stable showed in the same window, of
    throughput, once the revision has served `alone`, after the trial to before it.
    """
    shown: dict[str, Any] = {
        "metric": effect["metric"],
        "predictedPermille": effect["ratioPermille"],
        "lowPermille": effect["lowPermille"],
        "highPermille": effect["highPermille"],
    }
    if effect["metric"] == Metric.THROUGHPUT and alone:
        found = throughput.ratio(measured)
        return {**shown, **({"unmeasured": found} if isinstance(found, str) else {"measuredPermille": milli(found)})}
    if effect["metric"] not in _MEASURED:
        return shown
    for figure in ("mean", "p95"):
        canary = measured.get(f"canary.{effect['metric']}.{figure}")
        stable = measured.get(f"stable.{effect['metric']}.{figure}")
        if canary is not None and stable is not None and stable > 0:
            return {**shown, "measuredPermille": milli(canary / stable)}
    return shown

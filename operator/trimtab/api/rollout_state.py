"""`RolloutState` in the resource's status, and back: what a restarted operator continues from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, ValidationError

from trimtab.api.conditions import cut
from trimtab.api.instants import from_rfc3339, to_rfc3339
from trimtab.api.v1alpha1 import ATTEMPTS_KEPT, status
from trimtab.api.values import to_knobs
from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.model.rollout import Attempt, Candidate, Decision, RolloutState, Stable
from trimtab.model.verdict import Verdict

_LINE, _TEXT = 1024, 4096


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The persisted state cannot be understood: whoever reads it holds, and says why."""

    message: str


class _Rollout(status.RolloutStatus):
    model_config = ConfigDict(extra="forbid")


def rollout_state_from(document: Mapping[str, Any] | None) -> RolloutState | Unreadable:
    """The state in a whole `status`; a new one where there is none yet.

    A state that was written by a newer operator, or by hand, and is not understood in full is Unreadable: continuing
    from half of it could lose the way back.
    """
    document = document or {}
    if not document.get("rollout"):
        if document.get("attempts"):
            return Unreadable("status.rollout is missing although status.attempts is there")
        return RolloutState()
    try:
        held = _Rollout.model_validate(document["rollout"])
        attempts = tuple(status.AttemptStatus.model_validate(item) for item in document.get("attempts") or ())
        return RolloutState(
            phase=held.phase,
            since=from_rfc3339(held.since),
            stable=_stable_from(held.stable),
            candidate=_candidate_from(held.candidate),
            previous=_stable_from(held.previous),
            started_at=_maybe_from(held.started_at) or 0.0,
            served_at=_maybe_from(held.served_at),
            verdict=_verdict_from(held.verdict),
            quality=_verdict_from(held.quality),
            attempts=tuple(_attempt_from(item) for item in attempts),
            bad=held.bad,
            user_config=held.user_config.to_config(),
            user_template=held.user_template,
            holding=held.holding,
            held_by=Reason(held.held_by) if held.held_by else None,
            decision=_decision_from(held.decision),
            moved=held.moved,
            previous_user_config=held.previous_user_config.to_config(),
            previous_user_template=held.previous_user_template,
            paused_at=_maybe_from(held.paused_at),
            plan_starts=tuple(from_rfc3339(start) for start in held.plan_starts),
            strategy=held.strategy,
            strategy_because=held.strategy_because,
            share=held.share,
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return Unreadable(f"status.rollout cannot be read: {place}: {first['msg']}")
    except (ValueError, TypeError) as error:
        return Unreadable(f"status.rollout cannot be read: {error}")


def rollout_state_to(state: RolloutState) -> dict[str, Any]:
    """The fields `rollout` and `attempts` of a status. Raises ValueError for a knob that the resource has no field for.

    Messages and evidence are cut to the schema's length; numbers that are not finite are left out of the evidence.
    """
    rollout = {
        "phase": state.phase.value,
        "since": to_rfc3339(state.since),
        "stable": _stable_to(state.stable),
        "candidate": _candidate_to(state.candidate),
        "previous": _stable_to(state.previous),
        "startedAt": to_rfc3339(state.started_at) if state.started_at else None,
        "servedAt": _maybe_to(state.served_at),
        "verdict": _verdict_to(state.verdict),
        "quality": _verdict_to(state.quality),
        "bad": list(state.bad[: status.BAD_KEPT]) or None,
        "userConfig": _config_to(state.user_config),
        "userTemplate": state.user_template,
        "holding": cut(state.holding, _LINE),
        "heldBy": state.held_by.value if state.held_by is not None else None,
        "decision": _decision_to(state.decision),
        "moved": state.moved or None,
        "previousUserConfig": _config_to(state.previous_user_config) or None,
        "previousUserTemplate": state.previous_user_template or None,
        "pausedAt": _maybe_to(state.paused_at),
        "planStarts": [to_rfc3339(start) for start in state.plan_starts] or None,
        # Absent until the first trial, so that an upgrade of the operator writes nothing.
        "strategy": state.strategy.value if state.strategy_because else None,
        "strategyBecause": cut(state.strategy_because, _LINE) or None,
        "share": state.share or None,
    }
    return {
        "rollout": _present(rollout),
        "attempts": [_attempt_to(attempt) for attempt in state.attempts[:ATTEMPTS_KEPT]],
    }


def _present(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


def _config_to(config: EngineConfig) -> dict[str, Any]:
    return to_knobs(config).to_json()


def _maybe_to(seconds: float | None) -> str | None:
    return None if seconds is None else to_rfc3339(seconds)


def _maybe_from(text: str | None) -> float | None:
    return None if text is None else from_rfc3339(text)


def _numbers(values: Mapping[str, float]) -> dict[str, float] | None:
    finite = [(key, float(value)) for key, value in sorted(values.items()) if math.isfinite(value)]
    return dict(finite[: status.NUMBERS_KEPT]) or None


def _decision_to(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "outcome": decision.outcome.value,
        "reason": decision.reason.value,
        "message": cut(decision.message, _TEXT),
        "at": to_rfc3339(decision.at),
        **({"evidence": numbers} if (numbers := _numbers(decision.evidence)) else {}),
    }


def _decision_from(held: status.DecisionStatus | None) -> Decision | None:
    if held is None:
        return None
    return Decision(Reason(held.outcome), Reason(held.reason), held.message, from_rfc3339(held.at), dict(held.evidence))


def _stable_to(stable: Stable | None) -> dict[str, Any] | None:
    if stable is None:
        return None
    return _present(
        {
            "revision": stable.revision,
            "config": _config_to(stable.config),
            "template": stable.template,
            "carrier": stable.carrier or None,
        }
    )


def _stable_from(held: status.StableStatus | None) -> Stable | None:
    return None if held is None else Stable(held.revision, held.config.to_config(), held.template, held.carrier)


def _candidate_to(candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    return _present(
        {
            "revision": candidate.revision,
            "config": _config_to(candidate.config),
            "template": candidate.template,
            "source": candidate.source.value,
            "plan": candidate.plan or None,
            "step": candidate.step,
            "trades": sorted(metric.value for metric in candidate.trades) or None,
            "altersOutputs": candidate.alters_outputs,
            "carrier": candidate.carrier or None,
        }
    )


def _candidate_from(held: status.CandidateStatus | None) -> Candidate | None:
    if held is None:
        return None
    return Candidate(
        revision=held.revision,
        config=held.config.to_config(),
        template=held.template,
        source=held.source,
        plan=held.plan or "",
        step=held.step,
        trades=frozenset(held.trades),
        alters_outputs=held.alters_outputs,
        carrier=held.carrier,
    )


def _verdict_to(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return _present(
        {
            "call": verdict.call.value,
            "reason": verdict.reason.value,
            "message": cut(verdict.message, _TEXT),
            "evidence": _numbers(verdict.evidence),
        }
    )


def _verdict_from(held: status.VerdictStatus | None) -> Verdict | None:
    return None if held is None else Verdict(held.call, Reason(held.reason), held.message, held.evidence)


def _attempt_to(attempt: Attempt) -> dict[str, Any]:
    return _present(
        {
            "revision": attempt.revision,
            "config": _config_to(attempt.config),
            "source": attempt.source.value,
            "plan": attempt.plan or None,
            "step": attempt.step,
            "outcome": attempt.outcome.value,
            "reason": attempt.reason.value,
            "message": cut(attempt.message, _TEXT),
            "startedAt": to_rfc3339(attempt.started_at),
            "servedAt": _maybe_to(attempt.served_at),
            "decidedAt": to_rfc3339(attempt.decided_at),
            "endedAt": to_rfc3339(attempt.ended_at),
            "measured": _numbers(attempt.measured),
        }
    )


def _attempt_from(held: status.AttemptStatus) -> Attempt:
    return Attempt(
        revision=held.revision,
        config=held.config.to_config(),
        source=held.source,
        plan=held.plan or "",
        step=held.step,
        outcome=Reason(held.outcome),
        reason=Reason(held.reason),
        message=held.message,
        started_at=from_rfc3339(held.started_at),
        served_at=_maybe_from(held.served_at),
        decided_at=from_rfc3339(held.decided_at),
        ended_at=from_rfc3339(held.ended_at),
        measured=held.measured,
    )

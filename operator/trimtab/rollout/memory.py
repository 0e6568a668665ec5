"""What is remembered of earlier trials: attempts, revisions that failed, the day's budget, cooldown and back-off."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import Attempt, Candidate, Decision, Retry, RolloutState

ATTEMPTS_KEPT = 10
BAD_KEPT = 32
STARTS_KEPT = 100
DAY = 86_400.0
LONGEST_BACKOFF = 6 * 3_600.0

# The configuration was not shown to be at fault: the same trial may succeed at another time.
SURROUNDINGS = frozenset(
    {
        Reason.CANARY_UNSCHEDULABLE,
        Reason.QUOTA_EXCEEDED,
        Reason.INSUFFICIENT_GPUS,
        Reason.CANARY_IMAGE_PULL,
        Reason.DEADLINE_EXCEEDED,
    }
)
_FAILED = frozenset({Reason.ROLLED_BACK, Reason.ABANDONED})


def remembered(state: RolloutState, candidate: Candidate, decision: Decision, now: float) -> RolloutState:
    """The state with this trial among its attempts, and among the bad revisions if its configuration failed."""
    attempt = Attempt(
        revision=candidate.revision,
        config=candidate.config,
        source=candidate.source,
        plan=candidate.plan,
        step=candidate.step,
        outcome=decision.outcome,
        reason=decision.reason,
        message=decision.message,
        started_at=state.started_at,
        served_at=state.served_at,
        decided_at=decision.at,
        ended_at=now,
        measured=_measured(state, decision),
    )
    bad = state.bad
    if decision.outcome in _FAILED and decision.reason not in SURROUNDINGS:
        bad = (candidate.revision, *(name for name in bad if name != candidate.revision))[:BAD_KEPT]
    return replace(state, attempts=(attempt, *state.attempts)[:ATTEMPTS_KEPT], bad=bad)


def _measured(state: RolloutState, decision: Decision) -> dict[str, float]:
    """Of a promotion what was measured beside stable: after it there is no stable left to compare with.

    What was measured of the outputs stands beside it, each name with `quality.` before it.
    """
    quality = state.quality.evidence if state.quality is not None else {}
    outputs = {f"quality.{name}": value for name, value in quality.items()}
    if decision.outcome is Reason.PROMOTED and decision.evidence:
        return {**decision.evidence, **outputs}
    return {**(state.verdict.evidence if state.verdict is not None else {}), **outputs}


def with_start(state: RolloutState, now: float) -> RolloutState:
    """The state with one more of Trimtab's own trials in the day's budget."""
    return replace(state, plan_starts=(now, *starts_of_the_day(state, now))[:STARTS_KEPT])


def starts_of_the_day(state: RolloutState, now: float) -> tuple[float, ...]:
    return tuple(start for start in state.plan_starts if now - start < DAY)


def last_attempt(state: RolloutState, revision: str) -> Attempt | None:
    return next((attempt for attempt in state.attempts if attempt.revision == revision), None)


def backoff(state: RolloutState, revision: str, base: float) -> float:
    """Seconds to wait after the last attempt of `revision`: 0 unless its surroundings ended it, else doubling."""
    failures = 0
    for attempt in state.attempts:
        if attempt.revision != revision:
            continue
        if attempt.outcome not in _FAILED or attempt.reason not in SURROUNDINGS:
            break
        failures += 1
    return min(LONGEST_BACKOFF, base * 2.0 ** (failures - 1)) if failures else 0.0


def is_forgiven(state: RolloutState, retry: Retry | None, revision: str) -> bool:
    """Whether a person has asked for another try of this revision since its last one ended."""
    attempt = last_attempt(state, revision)
    return retry is not None and retry.revision == revision and (attempt is None or attempt.ended_at < retry.at)


def without_forgiven(state: RolloutState, retry: Retry | None) -> RolloutState:
    """The state in which the revision that may be tried again is not remembered as bad."""
    if retry is None or retry.revision not in state.bad or not is_forgiven(state, retry, retry.revision):
        return state
    return replace(state, bad=tuple(name for name in state.bad if name != retry.revision))

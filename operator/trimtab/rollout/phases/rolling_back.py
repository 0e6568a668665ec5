"""RollingBack: stable capacity is restored first; only then the candidate goes. A pause does not stop it."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.rollout import Action, ReconfigureTarget, RemoveRevision, RolloutFacts, RolloutState
from trimtab.rollout.capacity import canary, floor, still_needed, target
from trimtab.rollout.checks import counted
from trimtab.rollout.level import ensure, serving
from trimtab.rollout.phases.promoting import target_runs
from trimtab.rollout.trial import Move, finished


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.candidate is None or state.stable is None:
        return finished(state, now)
    found = canary(facts, state.candidate.revision)
    served, whole = target(facts, state), floor(facts, state)
    # A stable revision that does not come back must not keep a corrected spec from being tried. What still serves of
    # the candidate is then left beside it, and goes as a stray once something else carries everything.
    gone = found.gone or (served.ready == 0 and _overdue(state, facts, now))
    if gone and (not state.moved or _is_restored(state, facts, now)):
        return finished(state, now)
    message = f"{served.ready} of {counted(whole, 'stable pod')} ready; the candidate has {len(found.pods)} left."
    return Move(replace(state, holding=message))


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return serving(state, facts)
    found = canary(facts, candidate.revision)
    restoring: tuple[Action, ...] = ()
    if facts.policy.adopted and state.moved:
        restoring = (ReconfigureTarget(stable.revision, stable.config, stable.template),)
    going: Action = ensure(candidate, _keeps(state, facts, now))
    if found.gone:
        going = RemoveRevision(candidate.revision)
    return (*_stable(state, facts), *restoring, going)


def _stable(state: RolloutState, facts: RolloutFacts) -> tuple[Action, ...]:
    """Stable at full replicas, also where an HPA owns them: at no replicas an HPA is off and would never restore it."""
    if state.stable is not None and facts.policy.replicas_owned_elsewhere and not facts.policy.adopted and state.moved:
        served = facts.revision(state.stable.revision)
        if served.desired == 0:
            return (ensure(state.stable, max(facts.policy.replicas, 1)),)
    return serving(state, facts)


def _is_restored(state: RolloutState, facts: RolloutFacts, now: float) -> bool:
    """Stable carries everything again, or the deadline is over; an adopted target must run its own configuration again.

    Facts of the very instant of the decision prove nothing: they may be from before stable gave its last replica.
    """
    if state.stable is None:
        return True
    if now <= state.since:
        return False
    late = _overdue(state, facts, now)
    if facts.policy.adopted:
        found = target(facts, state)
        back = (found.runs or found.revision) == state.stable.revision
        return (back and late) or target_runs(facts, state, state.stable.revision)
    return late or facts.revision(state.stable.revision).ready >= floor(facts, state)


def _overdue(state: RolloutState, facts: RolloutFacts, now: float) -> bool:
    return now - state.since >= facts.policy.min_ready_deadline


def _keeps(state: RolloutState, facts: RolloutFacts, now: float) -> int:
    """Candidate replicas that stay meanwhile: ready ones that stable cannot replace yet, for a bounded time."""
    candidate = state.candidate
    if candidate is None:
        return 0
    found, served = canary(facts, candidate.revision), target(facts, state)
    if state.moved and (facts.policy.adopted or now <= state.since) and not _is_restored(state, facts, now):
        needed = found.ready
    else:
        needed = still_needed(served, found, floor(facts, state))
    return 0 if served.ready > 0 and _overdue(state, facts, now) else needed

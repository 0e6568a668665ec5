"""Promoting: replicas move from stable to the candidate; an adopted workload is reconfigured by its own rollout.

Ready capacity never falls below its floor: stable gives a replica only for a candidate pod that is ready.
"""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import (
    Action,
    Announce,
    ReconfigureTarget,
    RemoveRevision,
    RolloutFacts,
    RolloutState,
)
from trimtab.rollout.aborting import PROMOTING_DEADLINES, PROMOTING_MUST_ABORT
from trimtab.rollout.capacity import canary, canary_replicas, floor, lasting, moved, target
from trimtab.rollout.checks import Abort, Hold, Pass, counted, run
from trimtab.rollout.deciding import not_paused
from trimtab.rollout.level import ensure
from trimtab.rollout.trial import Move, aborted, finished, promoted


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.candidate is None or state.stable is None:
        return finished(state, now)
    deadlines = () if facts.paused else PROMOTING_DEADLINES
    answer = run((*PROMOTING_MUST_ABORT, *deadlines, not_paused, _everything_moved), facts, state, now)
    if isinstance(answer, Abort):
        return aborted(state, answer, facts, now)
    if isinstance(answer, Hold):
        return Move(replace(state, holding=answer.message))
    message = f"Revision {state.candidate.revision} carries everything and is watched."
    return Move(promoted(state, facts, now), (Announce(Reason.WATCHING, message),))


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return ()
    if facts.policy.adopted:
        return _adopted(state, facts)
    source, found, whole = facts.revision(stable.revision), canary(facts, candidate.revision), floor(facts, state)
    if facts.paused:
        # Hold what is, but never less of stable than what the candidate cannot carry.
        keeps, has = max(source.desired, whole - lasting(found)), max(found.desired, 1)
    else:
        keeps, has = moved(facts, source, found, whole)
    if facts.policy.replicas_owned_elsewhere:
        # Not ours to write step by step: the candidate grows beside it first, then stable goes in one move.
        grown = found.ready >= whole and found.desired >= whole
        return (ensure(stable, 0 if grown and not facts.paused else None), ensure(candidate, max(whole, 1)))
    return (ensure(stable, keeps), ensure(candidate, has))


def target_runs(facts: RolloutFacts, state: RolloutState, revision: str) -> bool:
    """True when the adopted target serves `revision` with all its pods."""
    found = target(facts, state)
    whole = found.desired > 0 and found.ready >= found.desired
    return (found.runs or found.revision) == revision and found.settled and whole


def _adopted(state: RolloutState, facts: RolloutFacts) -> tuple[Action, ...]:
    candidate = state.candidate
    if candidate is None:
        return ()
    takes = ReconfigureTarget(candidate.revision, candidate.config, candidate.template)
    found = canary(facts, candidate.revision)
    if facts.paused or not target_runs(facts, state, candidate.revision):
        return (takes, ensure(candidate, canary_replicas(facts)))
    return (takes, RemoveRevision(candidate.revision) if found.gone else ensure(candidate, 0))


def _everything_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Pass | Hold:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return Pass()
    found = canary(facts, candidate.revision)
    if facts.policy.adopted:
        served = target(facts, state)
        if not target_runs(facts, state, candidate.revision):
            message = f"The workload takes the new configuration: {served.ready} of {served.desired} pods ready."
            return Hold(Reason.PROMOTING, message)
        if candidate.revision in facts.revisions and facts.revisions[candidate.revision].owned:
            return Hold(Reason.PROMOTING, f"The canary goes: {counted(len(found.pods), 'pod')} left.")
        return Pass()
    source, whole = facts.revision(stable.revision), floor(facts, state)
    if found.ready >= max(whole, 1 if facts.policy.replicas_owned_elsewhere else 0) and source.desired == 0:
        return Pass()
    message = f"{found.ready} of {counted(whole, 'replica')} moved; stable still has {source.desired}."
    return Hold(Reason.PROMOTING, message)

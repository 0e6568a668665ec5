"""Adopted workloads: the trial is a copy beside the user's, which takes the configuration by its own rollout.

The copy serves until that rollout is over. With the strategy BlueGreen it has as many pods as the workload.
"""

from __future__ import annotations

from trimtab.model.reason import Reason
from trimtab.model.rollout import (
    Action,
    Phase,
    ReconfigureTarget,
    RolloutFacts,
    RolloutState,
    Strategy,
)
from trimtab.rollout.capacity import canary, kept_of_candidate, still_needed, target, target_runs, whole
from trimtab.rollout.checks import Hold, Pass, counted
from trimtab.rollout.level import ensure, leaving, serving
from trimtab.rollout.strategies import canary as by_canary
from trimtab.rollout.strategies.way import Way


def candidates(facts: RolloutFacts, state: RolloutState) -> int:
    if state.strategy is Strategy.BLUE_GREEN:
        return max(whole(facts, state), 1)
    return by_canary.candidates(facts, state)


def trying(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    if state.candidate is None:
        return ()
    found = canary(facts, state.candidate.revision)
    needed = still_needed(target(facts, state), found, whole(facts, state))
    return (ensure(state.candidate, max(candidates(facts, state), needed)),)


def moving(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate = state.candidate
    if candidate is None:
        return ()
    if state.phase is Phase.SHIFTING:
        return trying(state, facts, now)
    takes = ReconfigureTarget(candidate.revision, candidate.config, candidate.template)
    if facts.paused or not target_runs(facts, state, candidate.revision):
        return (takes, ensure(candidate, candidates(facts, state)))
    return (takes, leaving(candidate, facts, 0))


def is_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Pass | Hold:
    candidate = state.candidate
    if candidate is None:
        return Pass()
    found, served = canary(facts, candidate.revision), target(facts, state)
    if state.phase is Phase.SHIFTING:
        wanted = candidates(facts, state)
        if found.ready >= wanted:
            return Pass()
        return Hold(Reason.SHIFTING, f"{found.ready} of {counted(wanted, 'candidate pod')} of this share ready.")
    if not target_runs(facts, state, candidate.revision):
        message = f"The workload takes the new configuration: {served.ready} of {served.desired} pods ready."
        return Hold(Reason.PROMOTING, message)
    if candidate.revision in facts.revisions and facts.revisions[candidate.revision].owned:
        return Hold(Reason.PROMOTING, f"The canary goes: {counted(len(found.pods), 'pod')} left.")
    return Pass()


def watching(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return serving(state, facts)


def restoring(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return ()
    back: tuple[Action, ...] = ()
    if state.moved:
        back = (ReconfigureTarget(stable.revision, stable.config, stable.template),)
    return (*back, leaving(candidate, facts, kept_of_candidate(state, facts, now)))


WAY = Way(
    candidates=candidates,
    surge=by_canary.surge,
    trying=trying,
    moving=moving,
    is_moved=is_moved,
    watching=watching,
    restoring=restoring,
)

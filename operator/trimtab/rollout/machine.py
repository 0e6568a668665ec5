"""The machine: one step through the phases, as far as the facts carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from trimtab.model.rollout import Action, Announce, Phase, Policy, RolloutFacts, RolloutState
from trimtab.rollout.level import strays
from trimtab.rollout.phases import (
    canary_judging,
    canary_starting,
    promoting,
    rolling_back,
    shifting,
    stable,
    starting,
    watching,
)
from trimtab.rollout.table import is_allowed
from trimtab.rollout.traffic import with_traffic
from trimtab.rollout.trial import Move

_SOON = 1.0  # seconds: a phase that has just begun waits for facts that are newer than itself


@dataclass(frozen=True, slots=True)
class _Phase:
    advance: Callable[[RolloutState, RolloutFacts, float], Move]
    actions: Callable[[RolloutState, RolloutFacts, float], tuple[Action, ...]]


_PHASES: dict[Phase, _Phase] = {
    Phase.STARTING: _Phase(starting.advance, starting.actions),
    Phase.STABLE: _Phase(stable.advance, stable.actions),
    Phase.CANARY_STARTING: _Phase(canary_starting.advance, canary_starting.actions),
    Phase.CANARY_JUDGING: _Phase(canary_judging.advance, canary_judging.actions),
    Phase.SHIFTING: _Phase(shifting.advance, shifting.actions),
    Phase.PROMOTING: _Phase(promoting.advance, promoting.actions),
    Phase.WATCHING: _Phase(watching.advance, watching.actions),
    Phase.ROLLING_BACK: _Phase(rolling_back.advance, rolling_back.actions),
}


def step(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[RolloutState, tuple[Action, ...]]:
    """The next state and everything that should exist in it, then what is announced. Total and idempotent."""
    state = _pause_accounted(_sound(state), facts, now)
    said: tuple[Announce, ...] = ()
    for _ in Phase:
        move = _PHASES[state.phase].advance(state, facts, now)
        before, state = state.phase, move.state
        said += move.said
        if state.phase is before:
            break
        if not is_allowed(before, state.phase):
            raise AssertionError(f"no transition from {before} to {state.phase}")
    levels = (*_PHASES[state.phase].actions(state, facts, now), *strays(state, facts))
    return state, (*with_traffic(state, facts, now, levels), *said)


def next_wake(state: RolloutState, policy: Policy, now: float) -> float:
    """Seconds until the next step is worth taking, at most one evaluation interval."""
    interval = max(policy.interval, _SOON)
    if now <= state.since:
        return min(_SOON, interval)
    limits = {
        Phase.CANARY_STARTING: policy.min_ready_deadline,
        Phase.CANARY_JUDGING: policy.judge_deadline,
        Phase.WATCHING: policy.watch_seconds,
    }
    limit = limits.get(state.phase)
    if limit is None or state.paused_at is not None:
        return interval
    left = state.since + limit - now
    return min(interval, max(left, _SOON)) if left > 0 else interval


def _sound(state: RolloutState) -> RolloutState:
    """A state whose parts fit its phase: one that was cut or edited falls back to the nearest phase that needs less."""
    if state.stable is None and state.phase is not Phase.STARTING:
        return replace(state, phase=Phase.STARTING, candidate=None, previous=None, decision=None)
    on_trial = state.phase not in (Phase.STARTING, Phase.STABLE)
    if (on_trial and state.candidate is None) or (state.phase is Phase.WATCHING and state.previous is None):
        return replace(state, phase=Phase.STABLE, candidate=None, previous=None, decision=None)
    return state


def _pause_accounted(state: RolloutState, facts: RolloutFacts, now: float) -> RolloutState:
    """Time in a pause does not count against a phase's deadline: when it ends, the phase began that much later."""
    if facts.paused and state.paused_at is None:
        return replace(state, paused_at=now)
    if not facts.paused and state.paused_at is not None:
        began = max(state.paused_at, state.since)
        return replace(state, since=state.since + max(0.0, now - began), paused_at=None)
    return state

"""Promoting: the candidate takes over everything, as its strategy does it."""

from __future__ import annotations

from trimtab.model.reason import Reason
from trimtab.model.rollout import Announce, RolloutFacts, RolloutState
from trimtab.rollout.phases.moving import actions, held_or_aborted
from trimtab.rollout.trial import Move, finished, promoted

__all__ = ["actions", "advance"]


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.candidate is None or state.stable is None:
        return finished(state, now)
    message = f"Revision {state.candidate.revision} carries everything and is watched."
    return held_or_aborted(state, facts, now) or Move(
        promoted(state, facts, now), (Announce(Reason.WATCHING, message),)
    )

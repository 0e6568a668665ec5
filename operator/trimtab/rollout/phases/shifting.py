"""Shifting: the candidate grows to its next share, judged on; then it is judged there, from fresh evidence."""

from __future__ import annotations

from trimtab.model.reason import Reason
from trimtab.model.rollout import Announce, Phase, RolloutFacts, RolloutState
from trimtab.rollout.deciding import share_of
from trimtab.rollout.phases.moving import actions, held_or_aborted
from trimtab.rollout.trial import Move, entered, finished

__all__ = ["actions", "advance"]


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.candidate is None or state.stable is None:
        return finished(state, now)
    message = f"Revision {state.candidate.revision} has its share of {share_of(facts, state)} % and is judged there."
    return held_or_aborted(state, facts, now) or Move(
        entered(state, Phase.CANARY_JUDGING, now), (Announce(Reason.CANARY_JUDGING, message),)
    )

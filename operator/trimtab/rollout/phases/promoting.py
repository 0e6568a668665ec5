"""Promoting: the candidate takes over everything, as its strategy does it."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Announce, RolloutFacts, RolloutState
from trimtab.rollout.aborting import PROMOTING_DEADLINES, PROMOTING_MUST_ABORT
from trimtab.rollout.checks import Abort, Answer, Hold, run
from trimtab.rollout.deciding import not_paused
from trimtab.rollout.strategies import way_of
from trimtab.rollout.trial import Move, aborted, finished, promoted


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.candidate is None or state.stable is None:
        return finished(state, now)
    deadlines = () if facts.paused else PROMOTING_DEADLINES
    answer = run((*PROMOTING_MUST_ABORT, *deadlines, not_paused, everything_moved), facts, state, now)
    if isinstance(answer, Abort):
        return aborted(state, answer, facts, now)
    if isinstance(answer, Hold):
        return Move(replace(state, holding=answer.message))
    message = f"Revision {state.candidate.revision} carries everything and is watched."
    return Move(promoted(state, facts, now), (Announce(Reason.WATCHING, message),))


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return way_of(state, facts).moving(state, facts, now)


def everything_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    return way_of(state, facts).is_moved(facts, state, now)

"""What Shifting and Promoting share: the candidate moves, judged on, until what its strategy asks for has moved."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.rollout import Action, RolloutFacts, RolloutState
from trimtab.rollout.aborting import PROMOTING_DEADLINES, PROMOTING_MUST_ABORT
from trimtab.rollout.checks import Abort, Answer, Hold, run
from trimtab.rollout.deciding import not_paused
from trimtab.rollout.strategies import way_of
from trimtab.rollout.trial import Move, aborted


def held_or_aborted(state: RolloutState, facts: RolloutFacts, now: float) -> Move | None:
    """None once everything has moved."""
    deadlines = () if facts.paused else PROMOTING_DEADLINES
    answer = run((*PROMOTING_MUST_ABORT, *deadlines, not_paused, everything_moved), facts, state, now)
    if isinstance(answer, Abort):
        return aborted(state, answer, facts, now)
    if isinstance(answer, Hold):
        return Move(replace(state, holding=answer.message))
    return None


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return way_of(state, facts).moving(state, facts, now)


def everything_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    return way_of(state, facts).is_moved(facts, state, now)

"""Watching: the promoted revision carries everything, the previous one is kept and can be restored."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.rollout import Action, RolloutFacts, RolloutState
from trimtab.rollout.aborting import WATCHING_MUST_ABORT
from trimtab.rollout.checks import Abort, Hold, run
from trimtab.rollout.deciding import WATCHING_MAY_ADVANCE
from trimtab.rollout.strategies import way_of
from trimtab.rollout.trial import Move, aborted, finished


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.candidate is None or state.previous is None:
        return finished(state, now)
    answer = run(WATCHING_MUST_ABORT, facts, state, now)
    if now > state.since and facts.verdict is not None:
        state = replace(state, verdict=facts.verdict)
    if not isinstance(answer, Abort):
        answer = run(WATCHING_MAY_ADVANCE, facts, state, now)
    if isinstance(answer, Abort):
        return aborted(state, answer, facts, now)
    if isinstance(answer, Hold):
        return Move(replace(state, holding=answer.message))
    return finished(state, now)


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return way_of(state, facts).watching(state, facts, now)

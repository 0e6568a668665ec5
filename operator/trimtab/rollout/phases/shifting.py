"""Shifting: the candidate grows to its next share, judged on; then it is judged there, from fresh evidence."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Announce, Phase, RolloutFacts, RolloutState
from trimtab.rollout.aborting import PROMOTING_DEADLINES, PROMOTING_MUST_ABORT
from trimtab.rollout.checks import Abort, Hold, run
from trimtab.rollout.deciding import not_paused, share_of
from trimtab.rollout.phases.promoting import everything_moved
from trimtab.rollout.strategies import way_of
from trimtab.rollout.trial import Move, aborted, entered, finished


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.candidate is None or state.stable is None:
        return finished(state, now)
    deadlines = () if facts.paused else PROMOTING_DEADLINES
    answer = run((*PROMOTING_MUST_ABORT, *deadlines, not_paused, everything_moved), facts, state, now)
    if isinstance(answer, Abort):
        return aborted(state, answer, facts, now)
    if isinstance(answer, Hold):
        return Move(replace(state, holding=answer.message))
    message = f"Revision {state.candidate.revision} has its share of {share_of(facts, state)} % and is judged there."
    return Move(entered(state, Phase.CANARY_JUDGING, now), (Announce(Reason.CANARY_JUDGING, message),))


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return way_of(state, facts).moving(state, facts, now)

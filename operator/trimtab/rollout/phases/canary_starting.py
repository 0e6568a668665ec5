"""CanaryStarting: the candidate's first pods start, beside the stable ones or in the place of one of them."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Announce, Phase, RolloutFacts, RolloutState
from trimtab.rollout.aborting import STARTING_DEADLINES, STARTING_MUST_ABORT
from trimtab.rollout.checks import Abort, Hold, counted, run
from trimtab.rollout.deciding import STARTING_MAY_ADVANCE
from trimtab.rollout.strategies import way_of
from trimtab.rollout.trial import Move, aborted, entered, finished


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.candidate is None or state.stable is None:
        return finished(state, now)
    deadlines = () if facts.paused else STARTING_DEADLINES
    answer = run((*STARTING_MUST_ABORT, *STARTING_MAY_ADVANCE), facts, state, now)
    if isinstance(answer, Hold):
        late = run(deadlines, facts, state, now)
        answer = late if isinstance(late, Abort) else answer
    if isinstance(answer, Abort):
        return aborted(state, answer, facts, now)
    if isinstance(answer, Hold):
        return Move(replace(state, holding=answer.message))
    pods = counted(way_of(state, facts).candidates(facts, state), "canary pod")
    message = f"Revision {state.candidate.revision} serves with {pods}."
    judging = entered(replace(state, served_at=now), Phase.CANARY_JUDGING, now)
    return Move(judging, (Announce(Reason.CANARY_JUDGING, message),))


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return way_of(state, facts).trying(state, facts, now)

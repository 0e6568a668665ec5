"""CanaryStarting: the candidate's pods start on top of the stable ones, which nothing here touches."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Announce, Phase, RolloutFacts, RolloutState
from trimtab.rollout.aborting import STARTING_DEADLINES, STARTING_MUST_ABORT
from trimtab.rollout.capacity import canary, canary_replicas, floor, still_needed, target
from trimtab.rollout.checks import Abort, Hold, counted, run
from trimtab.rollout.deciding import STARTING_MAY_ADVANCE
from trimtab.rollout.level import ensure, serving
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
    message = f"Revision {state.candidate.revision} serves with {counted(canary_replicas(facts), 'canary pod')}."
    judging = entered(replace(state, served_at=now), Phase.CANARY_JUDGING, now)
    return Move(judging, (Announce(Reason.CANARY_JUDGING, message),))


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    if state.candidate is None:
        return serving(state, facts)
    # A revision that was left serving by an earlier trial may have more pods than a canary, and they may be needed.
    found = canary(facts, state.candidate.revision)
    needed = still_needed(target(facts, state), found, floor(facts, state))
    return (*serving(state, facts), ensure(state.candidate, max(canary_replicas(facts), needed)))

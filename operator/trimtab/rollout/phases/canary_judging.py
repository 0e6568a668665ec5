"""CanaryJudging: the candidate serves its share. Good promotes, Bad rolls back, Unknown holds until its deadline."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Announce, Decision, Phase, RolloutFacts, RolloutState
from trimtab.rollout.aborting import JUDGING_DEADLINES, JUDGING_MUST_ABORT
from trimtab.rollout.checks import Abort, Hold, run
from trimtab.rollout.deciding import JUDGING_MAY_ADVANCE
from trimtab.rollout.phases import canary_starting
from trimtab.rollout.trial import Move, aborted, entered, finished


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    candidate = state.candidate
    if candidate is None or state.stable is None:
        return finished(state, now)
    if now > state.since and facts.quality is not None:
        state = replace(state, quality=facts.quality)
    answer = run(JUDGING_MUST_ABORT, facts, state, now)
    if now > state.since and facts.verdict is not None:
        state = replace(state, verdict=facts.verdict)
    if not isinstance(answer, Abort):
        answer = run(JUDGING_MAY_ADVANCE, facts, state, now)
    if isinstance(answer, Hold) and not facts.paused:
        late = run(JUDGING_DEADLINES, facts, state, now)
        answer = late if isinstance(late, Abort) else answer
    if isinstance(answer, Abort):
        return aborted(state, answer, facts, now)
    if isinstance(answer, Hold):
        return Move(replace(state, holding=answer.message))
    words = state.verdict.message if state.verdict is not None else ""
    reason = state.verdict.reason if state.verdict is not None else Reason.PROMOTING
    evidence = facts.verdict.evidence if facts.verdict is not None else {}
    decision = Decision(outcome=Reason.PROMOTED, reason=reason, message=words, at=now, evidence=evidence)
    promoting = entered(replace(state, decision=decision, moved=True), Phase.PROMOTING, now)
    return Move(promoting, (Announce(Reason.PROMOTING, f"Revision {candidate.revision} is promoted: {words}"),))


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return canary_starting.actions(state, facts, now)

"""CanaryJudging: the candidate serves its share. Good moves on, Bad rolls back, Unknown holds until its deadline."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Announce, Decision, Phase, RolloutFacts, RolloutState, Strategy
from trimtab.rollout.aborting import JUDGING_DEADLINES, JUDGING_MUST_ABORT
from trimtab.rollout.capacity import owned_elsewhere
from trimtab.rollout.checks import Abort, Hold, run
from trimtab.rollout.deciding import JUDGING_MAY_ADVANCE, share_of
from trimtab.rollout.strategies import way_of
from trimtab.rollout.strategies.canary import next_share
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
    share = next_share(facts, state) if state.strategy is Strategy.CANARY else None
    if share is not None:
        # Where stable's replicas are not ours to write, it gives nothing until the promotion.
        shifting = replace(state, share=share, moved=state.moved or not owned_elsewhere(facts))
        said = f"Revision {candidate.revision} takes its next share, {share_of(facts, shifting)} %: {words}"
        return Move(entered(shifting, Phase.SHIFTING, now), (Announce(Reason.SHIFTING, said),))
    evidence = facts.verdict.evidence if facts.verdict is not None else {}
    if facts.git_owner:
        # The workload itself is its repository's to change: the copy has shown what there was to show, and goes.
        decision = Decision(outcome=Reason.PROVEN, reason=reason, message=words, at=now, evidence=evidence)
        said = f"Revision {candidate.revision} proved itself: {words} {facts.git_owner} may now be given the patch."
        leaving = entered(replace(state, decision=decision), Phase.ROLLING_BACK, now)
        return Move(leaving, (Announce(Reason.PROVEN, said),))
    decision = Decision(outcome=Reason.PROMOTED, reason=reason, message=words, at=now, evidence=evidence)
    promoting = entered(replace(state, decision=decision, moved=True), Phase.PROMOTING, now)
    return Move(promoting, (Announce(Reason.PROMOTING, f"Revision {candidate.revision} is promoted: {words}"),))


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return way_of(state, facts).trying(state, facts, now)

"""What Shifting and Promoting share: the candidate moves, judged on, until what its strategy asks for has moved."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Phase, RolloutFacts, RolloutState
from trimtab.rollout.aborting import PROMOTING_DEADLINES, PROMOTING_MUST_ABORT
from trimtab.rollout.checks import PASS, Abort, Answer, Hold, run
from trimtab.rollout.deciding import not_paused
from trimtab.rollout.strategies import way_of
from trimtab.rollout.traffic import has_moved
from trimtab.rollout.trial import Move, aborted


def held_or_aborted(state: RolloutState, facts: RolloutFacts, now: float) -> Move | None:
    """None once everything has moved."""
    deadlines = () if facts.paused else PROMOTING_DEADLINES
    answer = run((*PROMOTING_MUST_ABORT, *deadlines, not_paused, everything_moved, traffic_moved), facts, state, now)
    if isinstance(answer, Abort):
        return aborted(state, answer, facts, now)
    if isinstance(answer, Hold):
        return Move(replace(state, holding=answer.message))
    return None


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return way_of(state, facts).moving(state, facts, now)


def everything_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    return way_of(state, facts).is_moved(facts, state, now)


def traffic_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    if has_moved(state, facts, now):
        return PASS
    reason = Reason.SHIFTING if state.phase is Phase.SHIFTING else Reason.PROMOTING
    route = facts.route
    return Hold(reason, "The route's weights follow." if route is None or not route.message else route.message)

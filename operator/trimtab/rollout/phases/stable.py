"""Stable: one revision serves. A wish starts a trial when all checks pass; otherwise the state says what holds it."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import (
    Action,
    Announce,
    Phase,
    RolloutFacts,
    RolloutState,
    ServeOnly,
    Source,
    Stable,
    Strategy,
)
from trimtab.rollout.capacity import target, whole
from trimtab.rollout.checks import Hold, Pass, counted, run
from trimtab.rollout.choosing import choose
from trimtab.rollout.deciding import MAY_START, next_wish
from trimtab.rollout.level import serving
from trimtab.rollout.memory import without_forgiven
from trimtab.rollout.trial import Move, begun, entered


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.stable is None:
        return Move(entered(state, Phase.STARTING, now))
    state = without_forgiven(_adopted_spec(state, facts, now), facts.retry)
    wish = next_wish(facts, state)
    answer = run(MAY_START, facts, state, now)
    if wish is None:
        # A pause or a suspension is worth saying also while nothing waits.
        quiet = facts.suspended or facts.paused
        if quiet and not isinstance(answer, Pass):
            return Move(replace(state, holding=answer.message, held_by=None))
        if facts.revision_scaler:
            return Move(replace(state, holding=facts.revision_scaler, held_by=Reason.TARGET_CONFLICT))
        return Move(replace(state, holding=_missing(state, facts), held_by=None))
    if not isinstance(answer, Pass):
        return Move(replace(state, holding=answer.message, held_by=answer.reason))
    if wish.source is Source.USER and not facts.policy.adopted and _nothing_serves(state, facts):
        said = Announce(Reason.STARTING, f"No replicas are wanted: revision {wish.revision} is adopted directly.")
        state = replace(
            state,
            stable=Stable(wish.revision, wish.config, wish.template),
            user_config=facts.user_config,
            user_template=wish.template,
        )
        return Move(entered(state, Phase.STARTING, now), (said,))
    chosen = choose(facts, state, wish)
    if isinstance(chosen, Hold):
        return Move(replace(state, holding=chosen.message, held_by=chosen.reason))
    return begun(state, wish, chosen, now)


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    """While pods of the previous revision still end after a switch, they get no traffic."""
    stable = state.stable
    if stable is None or state.strategy is not Strategy.BLUE_GREEN or facts.policy.adopted:
        return serving(state, facts)
    others = any(found.pods for name, found in facts.revisions.items() if name != stable.revision)
    carries = facts.revision(stable.revision).ready >= max(whole(facts, state), 1)
    return (*((ServeOnly(stable.workload),) if others and carries else ()), *serving(state, facts))


def _missing(state: RolloutState, facts: RolloutFacts) -> str:
    """A sentence when the service itself is not whole; empty when it is."""
    ready, wanted = target(facts, state).ready, whole(facts, state)
    return f"{ready} of {counted(wanted, 'stable pod')} ready." if ready < wanted else ""


def _nothing_serves(state: RolloutState, facts: RolloutFacts) -> bool:
    return whole(facts, state) == 0 and target(facts, state).ready == 0


def _adopted_spec(state: RolloutState, facts: RolloutFacts, now: float) -> RolloutState:
    """The spec is what stable runs: remember it as adopted, so that the next edit is compared with it."""
    stable = state.stable
    if stable is None or facts.user.revision != stable.revision or now <= state.since:
        return state
    # One name has one template, also where that of a workload that was found was not known.
    stable = replace(stable, template=facts.user.template)
    return replace(state, stable=stable, user_config=facts.user_config, user_template=facts.user.template)

"""Starting: the first revision is created. Until a pod of it serves there is nothing that a canary could protect."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Announce, Phase, RolloutFacts, RolloutState, Stable
from trimtab.rollout.capacity import lasting, target, whole
from trimtab.rollout.checks import Pass, counted, run
from trimtab.rollout.deciding import not_paused
from trimtab.rollout.level import serving, unknown
from trimtab.rollout.trial import Move, entered


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    """The first revision follows the spec directly while no pod of it serves: an edit mends one that cannot start.

    From its first ready pod on, requests depend on it, so an edit is a trial like any other. That holds as well for a
    workload of ours that an operator, which died after the edit, has left: it is stable once it serves and nothing
    else does.
    """
    wish = facts.user
    said: tuple[Announce, ...] = ()
    answer = run((not_paused,), facts, state, now)
    if not isinstance(answer, Pass):
        return Move(replace(state, holding=answer.message))
    if state.stable is None and facts.suspended:
        return Move(replace(state, holding="The resource is suspended: nothing is created."))
    leftover = _leftover(state, facts)
    if leftover is not None:
        adopted = replace(state, stable=leftover, user_config=leftover.config, user_template=leftover.template)
        message = f"Revision {leftover.revision} was left and serves, so it is kept: what the spec asks for is tried."
        return Move(entered(adopted, Phase.STABLE, now), (Announce(Reason.STABLE, message),))
    edited = state.stable is not None and state.stable.revision != wish.revision
    if edited and target(facts, state).ready > 0:
        message = "The first revision serves already: the edited spec is tried on a canary."
        return Move(entered(state, Phase.STABLE, now), (Announce(Reason.STABLE, message),))
    if state.stable is None or (edited and not facts.suspended):
        state = replace(
            entered(state, Phase.STARTING, now),
            stable=Stable(wish.revision, wish.config, wish.template),
            user_config=facts.user_config,
            user_template=wish.template,
        )
        said = (Announce(Reason.STARTING, f"Revision {wish.revision} is created as the spec asks for it."),)
    ready, wanted, settled = target(facts, state).ready, whole(facts, state), target(facts, state).settled
    if ready >= wanted and settled and (wanted > 0 or not facts.policy.adopted):
        stable = state.stable.revision if state.stable is not None else ""
        message = f"Revision {stable} serves with {counted(ready, 'ready pod')}."
        return Move(entered(state, Phase.STABLE, now), (*said, Announce(Reason.STABLE, message)))
    return Move(replace(state, holding=_holding(facts, state, ready, wanted)), said)


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return serving(state, facts)


def _leftover(state: RolloutState, facts: RolloutFacts) -> Stable | None:
    """What serves of ours while neither the stable revision nor what the spec asks for does; the most pods first."""
    if facts.policy.adopted or target(facts, state).ready or facts.revision(facts.user.revision).ready:
        return None
    found = [one for one in unknown(state, facts) if lasting(one) and one.made_for and one.revision not in state.bad]
    return max(found, key=lambda one: (lasting(one), one.revision)).made_for if found else None


def _holding(facts: RolloutFacts, state: RolloutState, ready: int, wanted: int) -> str:
    found = target(facts, state)
    message = f"{ready} of {counted(wanted, 'pod')} of the first revision ready."
    for pod in found.pods:
        if pod.trouble is not None and not pod.terminating:
            words = f": {pod.trouble_message}" if pod.trouble_message else ""
            return f"{message} Pod {pod.name}: {pod.trouble.value}{words} An edited spec replaces it directly."
    if found.message:
        return f"{message} Its pods cannot be created: {found.message}"
    return message

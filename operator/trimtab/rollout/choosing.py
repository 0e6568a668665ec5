"""Which strategy a trial takes: the one that the spec names, or with Auto the first that what is free allows."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.model.reason import Reason
from trimtab.model.rollout import RolloutFacts, RolloutState, Strategy, Wish
from trimtab.rollout.capacity import least_in_place, target, whole
from trimtab.rollout.checks import Hold, counted
from trimtab.rollout.memory import last_attempt
from trimtab.rollout.strategies import WAYS

_NO_ROOM = (Reason.CANARY_UNSCHEDULABLE, Reason.QUOTA_EXCEEDED)
_NAMES = {Strategy.CANARY: "canary", Strategy.BLUE_GREEN: "new revision", Strategy.IN_PLACE: "trial"}
_FEWEST_LIVE = 2  # one pod has the values and another one is compared with it


@dataclass(frozen=True, slots=True)
class Chosen:
    """The strategy of a trial, and why, for people."""

    strategy: Strategy
    because: str


def choose(facts: RolloutFacts, state: RolloutState, wish: Wish) -> Chosen | Hold:
    """The strategy of a trial of `wish`, or what keeps it from fitting. Nothing was tried, so no attempt is counted."""
    live = _live(facts, state, wish)
    if live is not None:
        return live
    asked = facts.policy.strategy
    if asked is not None and asked is not Strategy.LIVE:
        return _obstacle(facts, state, asked) or Chosen(asked, "the spec asks for it")
    no_room, refused = _obstacle(facts, state, Strategy.CANARY), _refused_before(state, wish)
    if no_room is None and refused is None:
        return Chosen(Strategy.CANARY, _room(facts))
    no_way = _obstacle(facts, state, Strategy.IN_PLACE)
    if no_way is None:
        least = least_in_place(facts, whole(facts, state))
        why = f"there is no room beside the {counted(whole(facts, state), 'stable pod')}, and {least} must stay ready"
        return Chosen(Strategy.IN_PLACE, why)
    if no_room is None:
        return Chosen(Strategy.CANARY, f"{_room(facts)}, although the last one had none ({refused})")
    return Hold(no_room.reason, f"{no_room.message} One pod at a time in place is no way either: {no_way.message}")


def _live(facts: RolloutFacts, state: RolloutState, wish: Wish) -> Chosen | Hold | None:
    """What running pods take needs no pod, and so goes this way whatever strategy the spec asks for.

    With a single pod there is none to compare with, and a new revision is tried beside it as for any other change. So
    it is where a workload of this revision is there already (one name does not stand for the pods of two), and where a
    route shares the traffic by weight: it tells workloads apart, not the pods of one.
    """
    pods = min(target(facts, state).ready, whole(facts, state))
    alone = wish.revision not in facts.revisions
    apart = facts.route is None or (state.stable is not None and state.stable.carrier == wish.revision)
    if wish.live and alone and apart and not facts.policy.adopted and pods >= _FEWEST_LIVE:
        return Chosen(Strategy.LIVE, f"{counted(pods, 'running pod')} can take the values without a restart")
    if state.stable is not None and state.stable.carrier == wish.revision:
        message = f"The pods of revision {wish.revision} run {state.stable.revision} by now, and {pods} are ready."
        way_out = f"They take its values back once {_FEWEST_LIVE} are: raise spec.replicas."
        return Hold(Reason.INSUFFICIENT_CAPACITY, f"{message} {way_out}")
    return None


def _refused_before(state: RolloutState, wish: Wish) -> Reason | None:
    """Why the last canary of this revision had no room, where that was how it ended."""
    attempt = last_attempt(state, wish.revision)
    return attempt.reason if attempt is not None and attempt.reason in _NO_ROOM else None


def _obstacle(facts: RolloutFacts, state: RolloutState, strategy: Strategy) -> Hold | None:
    if strategy is Strategy.IN_PLACE:
        return _keeps_its_room(facts, state)
    return _too_few_gpus(facts, strategy) or _quota_refuses(facts, strategy)


def _too_few_gpus(facts: RolloutFacts, strategy: Strategy) -> Hold | None:
    if facts.gpus_per_pod <= 0 or facts.gpus_free is None:
        return None
    needed = WAYS[strategy].surge(facts) * facts.gpus_per_pod
    if facts.gpus_free >= needed:
        return None
    who = _NAMES[strategy]
    numbers = f"The {who} needs {counted(needed, 'GPU')} beside the stable pods and {facts.gpus_free} are free."
    return Hold(
        Reason.INSUFFICIENT_GPUS,
        f"{numbers} Free some, add a node, or lower spec.rollout.canaryReplicas or spec.accelerator.count.",
    )


def _quota_refuses(facts: RolloutFacts, strategy: Strategy) -> Hold | None:
    needed, admitted = WAYS[strategy].surge(facts), facts.pods_admitted
    if admitted is None or admitted >= needed:
        return None
    who = _NAMES[strategy]
    numbers = f"The {who} needs {counted(needed, 'pod')} beside the stable ones and the quota admits {admitted} more."
    return Hold(Reason.QUOTA_EXCEEDED, f"{numbers} Raise the namespace's quota, or ask for less in spec.resources.")


def _keeps_its_room(facts: RolloutFacts, state: RolloutState) -> Hold | None:
    """In place one pod goes before another comes, so the others must be enough."""
    replicas, ready = whole(facts, state), target(facts, state).ready
    if facts.policy.adopted:
        return Hold(Reason.INSUFFICIENT_CAPACITY, "The pods of an adopted workload are replaced by its own rollout.")
    if ready < min(target(facts, state).desired, replicas):
        return None  # a pod that does not serve gives its room
    least = least_in_place(facts, replicas)
    if ready - 1 < least:
        message = f"{least} of {counted(replicas, 'pod')} must stay ready and {ready} are, so none can give its room."
        way_out = "Raise spec.replicas, or lower spec.rollout.minAvailable or what a PodDisruptionBudget asks for."
        return Hold(Reason.INSUFFICIENT_CAPACITY, f"{message} {way_out}")
    if facts.pods_needed is None:
        message = "The load cannot be read, so it is not known whether one pod less can carry it."
        return Hold(Reason.INSUFFICIENT_CAPACITY, message)
    if ready - 1 < facts.pods_needed:
        message = f"The load needs {counted(facts.pods_needed, 'ready pod')} of the {ready} there are."
        return Hold(Reason.INSUFFICIENT_CAPACITY, f"{message} It is tried when there is less, or with more replicas.")
    return None


def _room(facts: RolloutFacts) -> str:
    needed = WAYS[Strategy.CANARY].surge(facts)
    room = "there is room for it as far as is known"
    if facts.gpus_per_pod > 0 and facts.gpus_free is not None:
        room = f"{facts.gpus_free} GPUs are free and it needs {needed * facts.gpus_per_pod}"
    elif facts.pods_admitted is not None:
        room = f"the quota admits {counted(facts.pods_admitted, 'further pod')} and it needs {needed}"
    return room

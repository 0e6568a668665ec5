"""InPlace: one stable pod at a time gives its room to a candidate pod, where there is no room beside them.

There are never more pods than the spec asks for, those that still end included: a new pod is asked for when an old one
is really gone. So capacity is short of one pod at a time, and never below its floor: `minAvailable` and what the
present load needs. Going back works the same way in the other direction; there the candidate's pods that do not serve
make room first, and the load is no reason to wait.
"""

from __future__ import annotations

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Phase, RevisionFacts, RolloutFacts, RolloutState
from trimtab.rollout.capacity import canary, is_restored, lasting, least_in_place, overdue, whole
from trimtab.rollout.checks import Hold, Pass, counted
from trimtab.rollout.level import ensure, leaving, serving, unknown
from trimtab.rollout.strategies import canary as by_canary
from trimtab.rollout.strategies.way import Way


def candidates(facts: RolloutFacts, state: RolloutState) -> int:
    return 1


def surge(facts: RolloutFacts) -> int:
    return 0


def trying(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return serving(state, facts)
    replicas = whole(facts, state)
    source, found = facts.revision(stable.revision), canary(facts, candidate.revision)
    others = _others(state, facts)
    keeps = max(replicas - others - max(found.desired, 1), 0)
    # The load decides whether the first pod goes; after that it is gone.
    least = enough(facts, replicas) if found.desired == 0 else least_in_place(facts, replicas)
    if keeps < source.desired and not _leaves(source, found, keeps, least):
        keeps = max(keeps, min(source.desired, replicas))
    room = 1 if max(len(source.pods), source.desired) + others < replicas else 0
    return (ensure(stable, keeps), ensure(candidate, max(found.desired, room)))


def moving(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return ()
    replicas = whole(facts, state)
    source, found = facts.revision(stable.revision), canary(facts, candidate.revision)
    keeps = min(source.desired, replicas)
    others = _others(state, facts)
    settled = len(source.pods) == source.desired and source.desired + found.desired + others >= replicas
    complete = found.ready >= found.desired and len(found.pods) == found.desired
    gives = settled and complete and _leaves(source, found, keeps - 1, enough(facts, replicas))
    if keeps > 0 and gives and not facts.paused:
        keeps -= 1
    room = max(0, replicas - others - max(len(source.pods), source.desired))
    has = found.desired if facts.paused else max(found.desired, room)
    return (ensure(stable, keeps), ensure(candidate, min(replicas, has)))


def _leaves(source: RevisionFacts, found: RevisionFacts, keeps: int, least: int) -> bool:
    """Whether `least` pods stay ready when stable keeps so many. One that is not ready goes first and costs nothing."""
    stays = min(source.ready, keeps)
    return stays == source.ready or stays + lasting(found) >= least


def _others(state: RolloutState, facts: RolloutFacts) -> int:
    """Pods of workloads that no part of the state knows: they take room until they have gone."""
    return sum(len(found.pods) for found in unknown(state, facts))


def enough(facts: RolloutFacts, replicas: int) -> int:
    """The ready pods that must stay while one is replaced; all of them where the load is unknown."""
    needed = facts.pods_needed
    return max(least_in_place(facts, replicas), replicas if needed is None else min(needed, replicas))


def is_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Pass | Hold:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None or state.phase is Phase.SHIFTING:
        return Pass()
    found, source, replicas = canary(facts, candidate.revision), facts.revision(stable.revision), whole(facts, state)
    if found.ready >= replicas and source.desired == 0:
        return Pass()
    message = f"{found.ready} of {counted(replicas, 'pod')} replaced in place; stable still has {source.desired}."
    if source.ready == source.desired and found.ready + source.ready - 1 < enough(facts, replicas):
        needed = "an unknown number" if facts.pods_needed is None else str(facts.pods_needed)
        least = least_in_place(facts, replicas)
        message += f" At least {least} must stay ready, and the load needs {needed}, so the next pod waits."
    return Hold(Reason.PROMOTING, message)


def restoring(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return serving(state, facts)
    replicas = whole(facts, state)
    source, found = facts.revision(stable.revision), canary(facts, candidate.revision)
    room = replicas - max(len(found.pods), found.desired)
    return (
        ensure(stable, max(min(source.desired, replicas), room, 0)),
        leaving(candidate, facts, _kept(state, facts, now)),
    )


def _kept(state: RolloutState, facts: RolloutFacts, now: float) -> int:
    """Candidate pods that stay for now: the ready ones, less one when stable has taken the last room and is ready."""
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return 0
    replicas = whole(facts, state)
    source, found = facts.revision(stable.revision), canary(facts, candidate.revision)
    if is_restored(facts, state, now) or (source.ready > 0 and overdue(facts, state, now)):
        return 0
    ready = lasting(found)
    # Facts of the instant of the decision may be from before the last move.
    if now <= state.since or source.ready < source.desired or source.desired + found.desired < replicas:
        return ready
    spare = lasting(source) + ready - 1 >= least_in_place(facts, replicas)
    return max(0, ready - 1) if spare and len(found.pods) == found.desired else ready


WAY = Way(
    candidates=candidates,
    surge=surge,
    trying=trying,
    moving=moving,
    is_moved=is_moved,
    watching=by_canary.watching,
    restoring=restoring,
)

"""Live: pods that run take other values, a few of them first; when these are good, all. No pod starts and none ends.

Candidate and stable are pods of one workload, told apart by the values that they were given. A pod counts for its
revision once its engine says that the values are in force, and so does a rollback: it is over when all engines say that
they have the old ones.
"""

from __future__ import annotations

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Phase, RolloutFacts, RolloutState
from trimtab.model.snapshot import Live
from trimtab.rollout.capacity import overdue, target, whole
from trimtab.rollout.checks import Hold, Pass, counted
from trimtab.rollout.level import serving, tuned
from trimtab.rollout.strategies.canary import pods_of_share
from trimtab.rollout.strategies.way import Way


def candidates(facts: RolloutFacts, state: RolloutState) -> int:
    """At least one, and one stable pod stays to compare with."""
    replicas = whole(facts, state)
    return max(1, min(pods_of_share(facts, 0, replicas), replicas - 1))


def surge(facts: RolloutFacts) -> int:
    return 0


def trying(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return serving(state, facts)
    values = (tuned(candidate, candidates(facts, state)), tuned(stable))
    return (*_replicas(state, facts), *values)


def moving(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate = state.candidate
    if candidate is None:
        return serving(state, facts)
    if facts.paused and state.phase is not Phase.PROMOTING:
        return trying(state, facts, now)
    return (*_replicas(state, facts), *(() if facts.paused else (tuned(candidate),)))


def is_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Pass | Hold:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None or state.phase is Phase.SHIFTING:
        return Pass()
    has, wanted = facts.revision(candidate.revision).in_force, max(whole(facts, state), 1)
    if has >= wanted and not facts.revision(stable.revision).ready:
        return Pass()
    return Hold(Reason.PROMOTING, f"The values are in force on {has} of {counted(wanted, 'pod')}.")


def alone(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    """All pods have stable's values: while they are watched the previous ones are remembered, and nothing of them runs;
    at a rollback the candidate's are taken away.
    """
    stable = state.stable
    return (*_replicas(state, facts), *((tuned(stable),) if stable is not None else ()))


def is_back(state: RolloutState, facts: RolloutFacts, now: float) -> bool:
    """Engines say that they have stable's values. One that cannot be read for long is not waited for: it was told."""
    if overdue(facts, state, now):
        return True
    served = target(facts, state)
    return now > state.since and served.in_force >= served.ready


def refusals(facts: RolloutFacts, revision: str) -> tuple[str, ...]:
    """The pods of a revision whose engines refuse its values."""
    return tuple(pod.name for pod in facts.revision(revision).pods if pod.live is Live.REFUSED)


def _replicas(state: RolloutState, facts: RolloutFacts) -> tuple[Action, ...]:
    """The workload at its full replicas, without a word about values."""
    return serving(state, facts)[:1]


WAY = Way(
    candidates=candidates,
    surge=surge,
    trying=trying,
    moving=moving,
    is_moved=is_moved,
    watching=alone,
    restoring=alone,
    is_back=is_back,
)

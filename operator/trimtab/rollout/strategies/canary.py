"""Canary: a few pods beside the stable ones; when they are good, replicas move, through shares where the spec has some.

Stable gives a replica only for a candidate pod that is ready, and the candidate never has more pods than the surge on
top of what stable gave. So neither capacity nor room is lost, however many shares there are. The first share stands
beside an untouched stable revision.
"""

from __future__ import annotations

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Phase, RevisionFacts, RolloutFacts, RolloutState
from trimtab.rollout.capacity import (
    canary,
    canary_replicas,
    kept_of_candidate,
    lasting,
    owned_elsewhere,
    still_needed,
    target,
    whole,
)
from trimtab.rollout.checks import Hold, Pass, counted
from trimtab.rollout.level import ensure, leaving, serving
from trimtab.rollout.strategies.way import Way


def candidates(facts: RolloutFacts, state: RolloutState) -> int:
    return pods_of_share(facts, state.share, whole(facts, state))


def pods_of_share(facts: RolloutFacts, index: int, replicas: int) -> int:
    """Candidate pods for a share of the replicas: at least one, and one stable pod stays to compare with.

    Where stable's replicas are not ours to write, the candidate grows beside all of them, at most to as many.
    """
    shares = facts.policy.shares
    if not shares:
        return canary_replicas(facts)
    share = shares[max(0, min(index, len(shares) - 1))]
    if owned_elsewhere(facts):
        return max(1, min(replicas, -(-replicas * share // (100 - share))))
    return max(1, min(replicas - 1, -(-replicas * share // 100)))


def next_share(facts: RolloutFacts, state: RolloutState) -> int | None:
    """The index of the next share that is other pods than the present one; None when only all of them is left.

    Where a route has the weights, every share is another one.
    """
    replicas = whole(facts, state)
    present = pods_of_share(facts, state.share, replicas)
    for index in range(state.share + 1, len(facts.policy.shares)):
        if facts.route is not None or pods_of_share(facts, index, replicas) != present:
            return index
    return None


def surge(facts: RolloutFacts) -> int:
    """The first share beside all of stable; where stable's replicas are not ours, the largest one as well."""
    replicas = max(facts.policy.replicas, 1)
    if owned_elsewhere(facts):
        return max(pods_of_share(facts, index, replicas) for index in range(max(len(facts.policy.shares), 1)))
    return max(canary_replicas(facts), pods_of_share(facts, 0, replicas))


def trying(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    if state.candidate is None:
        return serving(state, facts)
    if state.share > 0 and state.moved:
        return moving(state, facts, now)
    # A revision that was left serving by an earlier trial may have more pods than a canary, and they may be needed.
    found = canary(facts, state.candidate.revision)
    needed = still_needed(target(facts, state), found, whole(facts, state))
    return (*serving(state, facts), ensure(state.candidate, max(candidates(facts, state), needed)))


def moving(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return ()
    source, found, replicas = facts.revision(stable.revision), canary(facts, candidate.revision), whole(facts, state)
    if facts.policy.replicas_owned_elsewhere:
        # Not ours to write step by step: the candidate grows beside it first, then stable goes in one move.
        goal = _goal(facts, state)
        grown = state.phase is Phase.PROMOTING and found.ready >= goal and found.desired >= goal
        return (ensure(stable, 0 if grown and not facts.paused else None), ensure(candidate, max(goal, 1)))
    if facts.paused:
        # Hold what is, but never less of stable than what the candidate cannot carry.
        keeps, has = max(source.desired, replicas - lasting(found)), max(found.desired, 1)
    else:
        keeps, has = moved(facts, source, found, replicas, _goal(facts, state), _left(facts, state))
    return (ensure(stable, keeps), ensure(candidate, has))


def moved(
    facts: RolloutFacts, stable: RevisionFacts, candidate: RevisionFacts, replicas: int, goal: int, left: int
) -> tuple[int, int]:
    """Replicas (stable, candidate) for the next move towards `goal` candidate pods and `left` stable ones.

    Stable gives one replica at a time, and only one that a ready candidate pod stands in for. The candidate never has
    more pods than the canary's surge on top of what stable gave, so a promotion needs no more room than the canary did.
    """
    least = max(left, replicas - lasting(candidate))
    keeps = max(least, stable.desired - 1) if stable.desired > least else least
    grows = max(candidate.desired, replicas - keeps + canary_replicas(facts))
    return keeps, max(min(goal, grows), still_needed(stable, candidate, replicas))


def _goal(facts: RolloutFacts, state: RolloutState) -> int:
    """The candidate pods that are moved towards: those of the share, or in the end all."""
    replicas = whole(facts, state)
    return replicas if state.phase is Phase.PROMOTING else min(candidates(facts, state), max(replicas, 1))


def _left(facts: RolloutFacts, state: RolloutState) -> int:
    """The stable pods that are moved towards: none in the end, and until then at least one to compare with."""
    if state.phase is Phase.PROMOTING:
        return 0
    replicas = whole(facts, state)
    return max(replicas - _goal(facts, state), min(replicas, 1))


def is_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Pass | Hold:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return Pass()
    found, source = canary(facts, candidate.revision), facts.revision(stable.revision)
    goal, replicas = _goal(facts, state), whole(facts, state)
    elsewhere = facts.policy.replicas_owned_elsewhere
    if state.phase is not Phase.PROMOTING:
        if found.ready >= goal and (elsewhere or source.desired <= _left(facts, state)):
            return Pass()
        return Hold(Reason.SHIFTING, f"{found.ready} of {counted(goal, 'candidate pod')} of this share ready.")
    if found.ready >= max(replicas, 1 if elsewhere else 0) and source.desired == 0:
        return Pass()
    message = f"{found.ready} of {counted(replicas, 'replica')} moved; stable still has {source.desired}."
    return Hold(Reason.PROMOTING, message)


def watching(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    """The previous revision stays as a workload without pods, so that it can be restored as it was."""
    if state.previous is None:
        return serving(state, facts)
    return (*serving(state, facts), ensure(state.previous, 0))


def restoring(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return serving(state, facts)
    return (*_stable(state, facts), leaving(candidate, facts, kept_of_candidate(state, facts, now)))


def _stable(state: RolloutState, facts: RolloutFacts) -> tuple[Action, ...]:
    """Stable at full replicas, also where an HPA owns them: at no replicas an HPA is off and would never restore it."""
    if state.stable is not None and facts.policy.replicas_owned_elsewhere and state.moved:
        served = facts.revision(state.stable.revision)
        if served.desired == 0:
            return (ensure(state.stable, max(facts.policy.replicas, 1)),)
    return serving(state, facts)


WAY = Way(
    candidates=candidates,
    surge=surge,
    trying=trying,
    moving=moving,
    is_moved=is_moved,
    watching=watching,
    restoring=restoring,
)

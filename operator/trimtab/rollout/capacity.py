"""Replica arithmetic: how many replicas each revision may have so that ready capacity never falls below its floor."""

from __future__ import annotations

from trimtab.model.rollout import RevisionFacts, RolloutFacts, RolloutState, Strategy


def target(facts: RolloutFacts, state: RolloutState) -> RevisionFacts:
    """The workload of the stable revision: the user's own when the deployment adopts one."""
    if facts.policy.adopted:
        for revision in facts.revisions.values():
            if not revision.owned:
                return revision
    return facts.revision(state.stable.revision if state.stable is not None else "")


def canary(facts: RolloutFacts, name: str) -> RevisionFacts:
    """The workload of a candidate; never the adopted target, whatever revision that runs by now."""
    found = facts.revisions.get(name)
    return found if found is not None and found.owned else RevisionFacts(name, desired=0)


def whole(facts: RolloutFacts, state: RolloutState) -> int:
    """The replicas that are asked for while nothing is on trial."""
    if facts.policy.adopted:
        return max(target(facts, state).desired, 0)
    if facts.policy.replicas_owned_elsewhere:
        return max(target(facts, state).desired, 1)
    return max(facts.policy.replicas, 0)


def floor(facts: RolloutFacts, state: RolloutState) -> int:
    """The ready replicas that a planned change may not go below: all that are asked for, except where pods give their
    room to others.
    """
    if state.strategy is Strategy.IN_PLACE and not facts.policy.adopted:
        return least_in_place(facts, whole(facts, state))
    return whole(facts, state)


def least_in_place(facts: RolloutFacts, replicas: int) -> int:
    """Ready pods that stay while one pod at a time is replaced: the spec's number, or all but one and at least one; and
    never less than a PodDisruptionBudget asks for.
    """
    asked = facts.policy.min_available
    least = max(replicas - 1, 1) if asked is None else asked
    return max(0, min(max(least, facts.pods_protected), replicas))


def owned_elsewhere(facts: RolloutFacts) -> bool:
    """True when the stable revision's replicas are not ours to write."""
    return facts.policy.adopted or facts.policy.replicas_owned_elsewhere


def canary_replicas(facts: RolloutFacts) -> int:
    return max(facts.policy.canary_replicas, 1)


def lasting(revision: RevisionFacts) -> int:
    """Ready pods that stay: those which a workload that is already scaled down will not keep are not counted."""
    return min(revision.ready, max(revision.desired, 0))


def overdue(facts: RolloutFacts, state: RolloutState, now: float) -> bool:
    """Whether a rollback has waited for stable capacity as long as it may: longer where pods come back one by one."""
    limit = facts.policy.min_ready_deadline
    if state.strategy is Strategy.IN_PLACE:
        limit = (limit + facts.policy.drain_seconds) * (whole(facts, state) + 1)
    return now - state.since >= limit


def is_restored(facts: RolloutFacts, state: RolloutState, now: float) -> bool:
    """Stable carries everything again, or the deadline is over; an adopted target must run its own configuration again.

    Facts of the very instant of the decision prove nothing: they may be from before stable gave its last replica.
    """
    if state.stable is None:
        return True
    if now <= state.since:
        return False
    late = overdue(facts, state, now)
    if facts.policy.adopted:
        found = target(facts, state)
        back = (found.runs or found.revision) == state.stable.revision
        return (back and late) or target_runs(facts, state, state.stable.revision)
    return late or facts.revision(state.stable.revision).ready >= whole(facts, state)


def target_runs(facts: RolloutFacts, state: RolloutState, revision: str) -> bool:
    """True when the adopted target serves `revision` with all its pods."""
    found = target(facts, state)
    complete = found.desired > 0 and found.ready >= found.desired
    return (found.runs or found.revision) == revision and found.settled and complete


def still_needed(stable: RevisionFacts, candidate: RevisionFacts, replicas: int) -> int:
    """Candidate replicas that a rollback keeps until stable can carry everything: ready ones, for what stable lacks."""
    return min(lasting(candidate), max(0, replicas - lasting(stable)))


def kept_of_candidate(state: RolloutState, facts: RolloutFacts, now: float) -> int:
    """Candidate replicas that stay during a rollback: ready ones that stable cannot replace yet, for a bounded time."""
    candidate = state.candidate
    if candidate is None:
        return 0
    found, served = canary(facts, candidate.revision), target(facts, state)
    if state.moved and (facts.policy.adopted or now <= state.since) and not is_restored(facts, state, now):
        needed = found.ready
    else:
        needed = still_needed(served, found, whole(facts, state))
    return 0 if served.ready > 0 and overdue(facts, state, now) else needed

"""Replica arithmetic: how many replicas each revision may have so that ready capacity never falls below its floor."""

from __future__ import annotations

from trimtab.model.rollout import RevisionFacts, RolloutFacts, RolloutState


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


def floor(facts: RolloutFacts, state: RolloutState) -> int:
    """The ready replicas that a planned change may not go below: what is asked for while nothing is on trial."""
    if facts.policy.adopted:
        return max(target(facts, state).desired, 0)
    if facts.policy.replicas_owned_elsewhere:
        return max(target(facts, state).desired, 1)
    return max(facts.policy.replicas, 0)


def owned_elsewhere(facts: RolloutFacts) -> bool:
    """True when the stable revision's replicas are not ours to write."""
    return facts.policy.adopted or facts.policy.replicas_owned_elsewhere


def canary_replicas(facts: RolloutFacts) -> int:
    return max(facts.policy.canary_replicas, 1)


def lasting(revision: RevisionFacts) -> int:
    """Ready pods that stay: those which a workload that is already scaled down will not keep are not counted."""
    return min(revision.ready, max(revision.desired, 0))


def moved(facts: RolloutFacts, stable: RevisionFacts, candidate: RevisionFacts, whole: int) -> tuple[int, int]:
    """Replicas (stable, candidate) for the next move of a promotion.

    Stable gives one replica at a time, and only one that a ready candidate pod stands in for. The candidate never has
    more pods than the canary's surge on top of what stable gave, so a promotion needs no more room than the canary did.
    """
    needed = max(0, whole - lasting(candidate))
    keeps = max(needed, stable.desired - 1) if stable.desired > needed else needed
    grows = max(candidate.desired, whole - keeps + canary_replicas(facts))
    return keeps, min(whole, grows)


def still_needed(stable: RevisionFacts, candidate: RevisionFacts, whole: int) -> int:
    """Candidate replicas that a rollback keeps until stable can carry everything: ready ones, for what stable lacks."""
    return min(lasting(candidate), max(0, whole - lasting(stable)))

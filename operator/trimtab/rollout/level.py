"""Level actions: what should exist, whatever exists now."""

from __future__ import annotations

from trimtab.model.rollout import (
    Action,
    Candidate,
    EnsureRevision,
    Phase,
    RemoveRevision,
    RolloutFacts,
    RolloutState,
    Stable,
)
from trimtab.rollout.capacity import owned_elsewhere, whole


def ensure(what: Stable | Candidate, replicas: int | None) -> EnsureRevision:
    return EnsureRevision(what.revision, what.config, what.template, replicas)


def serving(state: RolloutState, facts: RolloutFacts) -> tuple[Action, ...]:
    """The stable revision at its full replicas; without a number where somebody else owns them.

    Nothing for an adopted target: that workload is the user's.
    """
    if state.stable is None or facts.policy.adopted:
        return ()
    return (ensure(state.stable, None if owned_elsewhere(facts) else whole(facts, state)),)


def strays(state: RolloutState, facts: RolloutFacts) -> tuple[RemoveRevision, ...]:
    """Workloads of ours that no part of the state knows: they go, unless ready capacity still rests on them.

    They are left by a crash between a write and the persisting of what followed, by a rollback that has just ended, or
    by a status that was lost.
    """
    known = {part.revision for part in (state.stable, state.candidate, state.previous) if part is not None}
    if state.stable is None:
        return ()
    ready = sum(facts.revision(name).ready for name in known)
    # A stray that serves is capacity while the known ones do not carry everything.
    may_go = ready >= whole(facts, state) and state.phase in (Phase.STABLE, Phase.CANARY_STARTING, Phase.CANARY_JUDGING)
    return tuple(
        RemoveRevision(name)
        for name, found in sorted(facts.revisions.items())
        if name not in known and found.owned and (found.ready == 0 or may_go)
    )

"""Level actions: what should exist, whatever exists now."""

from __future__ import annotations

from trimtab.model.config import EngineConfig
from trimtab.model.rollout import (
    Action,
    Candidate,
    EnsureRevision,
    Phase,
    RemoveRevision,
    RevisionFacts,
    RolloutFacts,
    RolloutState,
    Stable,
    Strategy,
    TuneLive,
)
from trimtab.rollout.capacity import canary, floor, owned_elsewhere, whole


def ensure(what: Stable | Candidate, replicas: int | None) -> EnsureRevision:
    return EnsureRevision(what.revision, what.config, what.template, replicas, what.carrier)


def tuned(what: Stable | Candidate, pods: int | None = None) -> TuneLive:
    """So many pods have the live values of this revision; all of its workload's that are left, without a number."""
    return TuneLive(what.workload, what.revision, what.config, pods)


def leaving(candidate: Candidate, facts: RolloutFacts, keeps: int) -> Action:
    """The candidate at the replicas that it keeps for now; once it has no pods left, its workload goes."""
    if canary(facts, candidate.revision).gone:
        return RemoveRevision(candidate.revision)
    return ensure(candidate, keeps)


def serving(state: RolloutState, facts: RolloutFacts) -> tuple[Action, ...]:
    """The stable revision at its full replicas; without a number where somebody else owns them.

    Nothing for an adopted target: that workload is the user's. Pods that are new, or were left by a trial, get the
    stable revision's live values, where the engine has any.
    """
    stable = state.stable
    if stable is None or facts.policy.adopted:
        return ()
    full = ensure(stable, None if owned_elsewhere(facts) else whole(facts, state))
    has_live = any(pod.live is not None for pod in facts.revision(stable.revision).pods)
    return (full, tuned(stable)) if has_live or stable.carrier else (full,)


def unknown(state: RolloutState, facts: RolloutFacts) -> tuple[RevisionFacts, ...]:
    """Workloads of ours that no part of the state knows.

    They are left by a crash between a write and the persisting of what followed, by a rollback that has just ended, or
    by a status that was lost.
    """
    parts = [part for part in (state.stable, state.candidate, state.previous) if part is not None]
    known = {name for part in parts for name in (part.revision, part.carrier)}
    return tuple(found for name, found in sorted(facts.revisions.items()) if name not in known and found.owned)


def strays(state: RolloutState, facts: RolloutFacts) -> tuple[Action, ...]:
    """Unknown workloads go, unless ready capacity still rests on them."""
    if state.stable is None:
        return ()
    if state.strategy is Strategy.IN_PLACE and not facts.policy.adopted:
        return _making_room(state, facts)
    # A stray that serves is capacity while the known ones do not carry everything.
    may_go = _known_ready(state, facts) >= whole(facts, state) and state.phase in (
        Phase.STABLE,
        Phase.CANARY_STARTING,
        Phase.CANARY_JUDGING,
    )
    return tuple(RemoveRevision(found.revision) for found in unknown(state, facts) if found.ready == 0 or may_go)


def _making_room(state: RolloutState, facts: RolloutFacts) -> tuple[Action, ...]:
    """Where room is scarce a stray keeps only the pods that the floor needs, so that known revisions find a place."""
    lacking = max(0, floor(facts, state) - _known_ready(state, facts))
    actions: list[Action] = []
    for found in unknown(state, facts):
        keeps = min(found.ready, lacking)
        lacking -= keeps
        if keeps == 0:
            actions.append(RemoveRevision(found.revision))
        elif keeps < found.desired:
            # It exists, so nothing but its replicas is looked at.
            actions.append(EnsureRevision(found.revision, EngineConfig(), "", keeps))
    return tuple(actions)


def _known_ready(state: RolloutState, facts: RolloutFacts) -> int:
    known = {part.revision for part in (state.stable, state.candidate, state.previous) if part is not None}
    return sum(facts.revision(name).ready for name in known)

"""BlueGreen: as many new pods as serve, beside them; when they are good, all traffic is switched at once.

Both revisions share the traffic while they are compared: a verdict needs the same traffic at the same time on both. The
old pods run on until the watch is over, so that going back is a switch as well.
"""

from __future__ import annotations

from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Phase, RolloutFacts, RolloutState, ServeOnly
from trimtab.rollout.capacity import canary, kept_of_candidate, lasting, whole
from trimtab.rollout.checks import Hold, Pass, counted
from trimtab.rollout.level import ensure, leaving, serving
from trimtab.rollout.strategies.way import Way


def candidates(facts: RolloutFacts, state: RolloutState) -> int:
    return max(whole(facts, state), 1)


def surge(facts: RolloutFacts) -> int:
    return max(facts.policy.replicas, 1)


def trying(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    if state.candidate is None:
        return serving(state, facts)
    return (*serving(state, facts), ensure(state.candidate, candidates(facts, state)))


def moving(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    """The switch, as soon as the candidate can carry everything; it holds where it is while the rollout is paused."""
    candidate = state.candidate
    if candidate is None:
        return serving(state, facts)
    carries = lasting(canary(facts, candidate.revision)) >= max(whole(facts, state), 1)
    switched = facts.served == candidate.revision
    only = (ServeOnly(candidate.revision),) if carries and (switched or not facts.paused) else ()
    return (*only, *trying(state, facts, now))


def is_moved(facts: RolloutFacts, state: RolloutState, now: float) -> Pass | Hold:
    candidate = state.candidate
    if candidate is None or state.phase is Phase.SHIFTING:
        return Pass()
    found, wanted = canary(facts, candidate.revision), max(whole(facts, state), 1)
    if found.ready < wanted:
        return Hold(Reason.PROMOTING, f"{found.ready} of {counted(wanted, 'new pod')} ready; then traffic is switched.")
    if facts.served != candidate.revision:
        return Hold(Reason.PROMOTING, f"All traffic is switched to the {counted(wanted, 'new pod')}.")
    return Pass()


def watching(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    """The previous pods run on without traffic. If the promoted ones cannot carry everything, they help."""
    if state.previous is None or state.stable is None:
        return serving(state, facts)
    wanted = max(whole(facts, state), 1)
    carries = facts.revision(state.stable.revision).ready >= wanted
    only = (ServeOnly(state.stable.workload),) if carries else ()
    return (*only, *serving(state, facts), ensure(state.previous, whole(facts, state)))


def restoring(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    """Traffic goes back first, in one write; then the candidate's pods go."""
    candidate, stable = state.candidate, state.stable
    if candidate is None or stable is None:
        return serving(state, facts)
    carries = facts.revision(stable.revision).ready >= max(whole(facts, state), 1)
    only = (ServeOnly(stable.workload),) if carries and not canary(facts, candidate.revision).gone else ()
    going = leaving(candidate, facts, kept_of_candidate(state, facts, now))
    return (*only, *serving(state, facts), going)


WAY = Way(
    candidates=candidates,
    surge=surge,
    trying=trying,
    moving=moving,
    is_moved=is_moved,
    watching=watching,
    restoring=restoring,
)

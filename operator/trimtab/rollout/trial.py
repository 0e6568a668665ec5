"""How a trial begins and ends: the changes of state that several phases share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.model.rollout import (
    Announce,
    Candidate,
    Decision,
    Phase,
    RolloutFacts,
    RolloutState,
    Source,
    Stable,
    Strategy,
    Wish,
)
from trimtab.rollout.checks import Abort
from trimtab.rollout.choosing import Chosen
from trimtab.rollout.memory import remembered, with_start

_OUTCOMES: dict[Reason, Reason] = {
    Reason.SUPERSEDED: Reason.SUPERSEDED,
    Reason.WITHDRAWN: Reason.WITHDRAWN,
    Reason.SUSPENDED: Reason.WITHDRAWN,
}


@dataclass(frozen=True, slots=True)
class Move:
    """What one look at a phase led to: the next state, and what is said about it."""

    state: RolloutState
    said: tuple[Announce, ...] = ()


def entered(state: RolloutState, phase: Phase, now: float) -> RolloutState:
    """The state at the moment `phase` begins."""
    return replace(state, phase=phase, since=now, holding="", held_by=None)


def begun(state: RolloutState, wish: Wish, chosen: Chosen, now: float) -> Move:
    """A trial of `wish` begins."""
    stable = state.stable
    candidate = Candidate(
        revision=wish.revision,
        config=wish.config,
        template=wish.template,
        source=wish.source,
        plan=wish.plan,
        step=wish.step,
        trades=wish.trades,
        alters_outputs=wish.alters_outputs,
        carrier=stable.workload if stable is not None and chosen.strategy is Strategy.LIVE else "",
    )
    if wish.source is Source.PLAN:
        state = with_start(state, now)
    state = replace(
        state,
        candidate=candidate,
        started_at=now,
        served_at=None,
        verdict=None,
        quality=None,
        decision=None,
        # In place the first stable pod is asked to go before anything of the candidate is there.
        moved=chosen.strategy is Strategy.IN_PLACE,
        strategy=chosen.strategy,
        strategy_because=chosen.because,
        share=0,
    )
    changes = described(stable.config if stable is not None else EngineConfig(), wish.config)
    who = f"plan {wish.plan}" if wish.source is Source.PLAN else "the spec"
    how = f"Strategy {chosen.strategy.value}, because {chosen.because}."
    message = f"Trying revision {wish.revision} for {who}: {changes}. {how}"
    return Move(entered(state, Phase.CANARY_STARTING, now), (Announce(Reason.CANARY_STARTING, message),))


def aborted(state: RolloutState, abort: Abort, facts: RolloutFacts, now: float) -> Move:
    """The trial is decided against: from here only the rollback is left. While watching, `previous` is stable again."""
    candidate = state.candidate
    failed = Reason.ABANDONED if state.served_at is None else Reason.ROLLED_BACK
    outcome = _OUTCOMES.get(abort.reason, failed)
    decision = Decision(outcome=outcome, reason=abort.reason, message=abort.message, at=now)
    if state.phase is Phase.WATCHING and state.previous is not None:
        state = replace(
            state,
            stable=state.previous,
            previous=None,
            user_config=state.previous_user_config,
            user_template=state.previous_user_template,
        )
    verdict = facts.verdict if facts.verdict is not None and facts.verdict.reason is abort.reason else state.verdict
    back_to = state.stable.revision if state.stable is not None else "none"
    name = candidate.revision if candidate is not None else "none"
    message = f"Revision {name} is not kept: {abort.message} Revision {back_to} serves."
    said = Announce(abort.reason, message, warning=outcome is failed)
    return Move(entered(replace(state, decision=decision, verdict=verdict), Phase.ROLLING_BACK, now), (said,))


def promoted(state: RolloutState, facts: RolloutFacts, now: float) -> RolloutState:
    """The candidate is the stable revision from now on, watched; what served before can be restored."""
    candidate = state.candidate
    if candidate is None:
        return entered(state, Phase.WATCHING, now)
    state = replace(
        state,
        stable=Stable(candidate.revision, candidate.config, candidate.template, _carrier(candidate)),
        previous=state.stable,
        user_config=facts.user_config,
        user_template=facts.user.template,
        previous_user_config=state.user_config,
        previous_user_template=state.user_template,
    )
    return entered(state, Phase.WATCHING, now)


def _carrier(candidate: Candidate) -> str:
    """A revision that went back to the workload of its own name has no carrier."""
    return "" if candidate.carrier == candidate.revision else candidate.carrier


def finished(state: RolloutState, now: float) -> Move:
    """The trial is over: it becomes an Attempt, and nothing of it is left in the state."""
    said: tuple[Announce, ...] = ()
    candidate, decision = state.candidate, state.decision
    if candidate is not None and decision is not None:
        state = remembered(state, candidate, decision, now)
        warning = decision.outcome in (Reason.ROLLED_BACK, Reason.ABANDONED)
        said = (Announce(decision.outcome, _summary(candidate, decision), warning=warning),)
    state = replace(
        state,
        candidate=None,
        previous=None,
        previous_user_config=EngineConfig(),
        previous_user_template="",
        decision=None,
        moved=False,
        verdict=None,
        quality=None,
        served_at=None,
        share=0,
    )
    return Move(entered(state, Phase.STABLE, now), said)


def _summary(candidate: Candidate, decision: Decision) -> str:
    ends = "is kept" if decision.outcome is Reason.PROMOTED else "is gone"
    if decision.outcome is Reason.PROVEN:
        ends = "may be committed"
    return f"Revision {candidate.revision} {ends} ({decision.outcome.value}): {decision.message}"


def described(before: EngineConfig, after: EngineConfig) -> str:
    """The difference between two configurations, for people."""
    changes = before.changes_to(after)
    if not changes:
        return "the pods change, the engine's configuration does not"
    shown = [f"{knob} {_value(before.get(knob))} -> {_value(value)}" for knob, value in changes.items()]
    return ", ".join(shown)


def _value(value: object) -> str:
    return "default" if value is None else str(value)

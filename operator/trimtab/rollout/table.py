"""The transitions that exist: the machine refuses any other, and the documentation's diagram is drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.model.rollout import Phase


@dataclass(frozen=True, slots=True)
class Transition:
    """One arrow: from where, to where, and when, for people."""

    source: Phase
    target: Phase
    when: str


MEANING: dict[Phase, str] = {
    Phase.STARTING: "The first revision is created and has not served yet.",
    Phase.STABLE: "One revision serves, nothing is on trial.",
    Phase.CANARY_STARTING: "A candidate's pods start, beside the stable ones or (InPlace) in the place of one of them.",
    Phase.CANARY_JUDGING: "The candidate serves a share of the traffic and is compared.",
    Phase.SHIFTING: "The candidate grows to the next share of `spec.rollout.steps`, judged on.",
    Phase.PROMOTING: "The candidate takes over; ready capacity never falls below the floor.",
    Phase.WATCHING: "The promoted revision serves everything; the previous one can be restored.",
    Phase.ROLLING_BACK: "Stable capacity is restored first, then the candidate goes.",
}

TRANSITIONS: tuple[Transition, ...] = (
    Transition(
        Phase.STARTING, Phase.STABLE, "all replicas are ready, or some serve and the spec asks for another revision"
    ),
    Transition(Phase.STABLE, Phase.STARTING, "the user wants another revision while no replicas are wanted"),
    Transition(Phase.STABLE, Phase.CANARY_STARTING, "a wish may be tried"),
    Transition(Phase.CANARY_STARTING, Phase.CANARY_JUDGING, "the canary is ready"),
    Transition(
        Phase.CANARY_STARTING,
        Phase.ROLLING_BACK,
        "it cannot start, is not ready in time, or is not wanted any more",
    ),
    Transition(Phase.CANARY_JUDGING, Phase.SHIFTING, "the verdict is Good and a larger share is left"),
    Transition(Phase.CANARY_JUDGING, Phase.PROMOTING, "the verdict is Good at the last share"),
    Transition(
        Phase.CANARY_JUDGING,
        Phase.ROLLING_BACK,
        "the verdict is Bad, or Unknown until the deadline, its pods die, or it is not wanted any more; "
        "or it is Good and a repository has the last word",
    ),
    Transition(Phase.SHIFTING, Phase.CANARY_JUDGING, "the pods of the share are ready"),
    Transition(Phase.SHIFTING, Phase.ROLLING_BACK, "trouble while replicas move, or it is not wanted any more"),
    Transition(Phase.PROMOTING, Phase.WATCHING, "the candidate carries everything"),
    Transition(Phase.PROMOTING, Phase.ROLLING_BACK, "trouble while replicas move, or it is not wanted any more"),
    Transition(Phase.WATCHING, Phase.STABLE, "the watch ends without a Bad verdict"),
    Transition(Phase.WATCHING, Phase.ROLLING_BACK, "the verdict is Bad, its pods die, or it is not wanted any more"),
    Transition(Phase.ROLLING_BACK, Phase.STABLE, "stable capacity is back and the candidate is gone"),
)

_ALLOWED = frozenset((transition.source, transition.target) for transition in TRANSITIONS)


def is_allowed(source: Phase, target: Phase) -> bool:
    return (source, target) in _ALLOWED

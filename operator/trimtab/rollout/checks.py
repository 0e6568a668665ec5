"""Chains of named checks: each looks at one thing and passes, holds or aborts, with a reason and a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from trimtab.model.reason import Reason
from trimtab.model.rollout import RolloutFacts, RolloutState


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing stands in the way, as far as this check can see."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Not yet; `message` says what is waited for, with the numbers."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Abort:
    """The trial ends; `message` says why, with the numbers."""

    reason: Reason
    message: str


Answer: TypeAlias = Pass | Hold | Abort
Check: TypeAlias = Callable[[RolloutFacts, RolloutState, float], Answer]

PASS = Pass()


def run(checks: tuple[Check, ...], facts: RolloutFacts, state: RolloutState, now: float) -> Answer:
    """The first answer that is not a pass."""
    for check in checks:
        answer = check(facts, state, now)
        if not isinstance(answer, Pass):
            return answer
    return PASS


def counted(number: int, noun: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""What the tuner knows, and what it decides. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from trimtab_engine.limits.limits import Limits


class Action(StrEnum):
    """What a decision does."""

    HOLD = "hold"
    RAISE = "raise"
    LOWER = "lower"
    ROLL_BACK = "roll_back"


class Reason(StrEnum):
    """Why, as a label of the counter."""

    TOO_LITTLE_MEASURED = "too_little_measured"
    NOT_IN_FORCE = "not_in_force"
    SETTLED = "settled"
    AT_THE_BOUND = "at_the_bound"
    REQUESTS_WAIT = "requests_wait"
    ITL_ABOVE_TARGET = "itl_above_target"
    TTFT_ABOVE_TARGET = "ttft_above_target"
    ROOM_IN_THE_STEP = "room_in_the_step"
    WAIT_BELOW_TARGET = "wait_below_target"
    WORSE_THAN_BEFORE = "worse_than_before"
    REQUESTS_FAIL = "requests_fail"
    LIMITS_WERE_SET = "limits_were_set"


@dataclass(frozen=True, kw_only=True)
class Targets:
    """p95 targets, None where there is none; at least one is set. What the tuner may do beside."""

    ttft: float | None
    itl: float | None
    fewest_requests: int = 8
    fewest_running: int = 1
    admission: bool = True


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A window since the last change: its length, p95 and number of first tokens and of gaps, output tokens per second,
    the share of requests that failed (0 to 1), refusals; and what runs and waits now."""

    seconds: float
    ttft: float | None
    first_tokens: int
    itl: float | None
    gaps: int
    tokens_per_second: float
    error_share: float | None
    ended: int
    refused: int
    running: int
    waiting: int


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done. `limits` are those to be in force afterwards; `limit` names the one that changes."""

    action: Action
    reason: Reason
    message: str
    limits: Limits
    limit: str = ""
    before: float | None = None
    after: float | None = None

    @property
    def changes(self) -> bool:
        return self.action is not Action.HOLD

    def as_json(self) -> dict[str, Any]:
        return {
            "action": self.action.value,
            "reason": self.reason.value,
            "message": self.message,
            "limit": self.limit or None,
            "from": self.before,
            "to": self.after,
        }


def ratio(value: float | None, target: float | None) -> float | None:
    """How much of its target a value is; None where either is not there."""
    return None if value is None or target is None else value / target


def worst(measured: Measured, targets: Targets) -> float:
    """The larger ratio of a measured p95 to its target; 0 where nothing is known."""
    found = (ratio(measured.ttft, targets.ttft), ratio(measured.itl, targets.itl))
    return max((value for value in found if value is not None), default=0.0)

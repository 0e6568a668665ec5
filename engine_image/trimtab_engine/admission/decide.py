"""Whether a request may come in.

Requests that may come in wait in the engine's own queue, so nothing is queued twice; those that may not are answered at
once, which keeps what is accepted within its time. What is not known never refuses.

The expected wait is what is before a request over the rate at which the full engine completes (J. D. C. Little, "A
Proof for the Queuing Formula L = λW", 1961). That acts before anybody has waited, and needs a rate, which is not known
at first and is an old one when the engine becomes slower. So the wait that is measured counts, too: who comes behind
one that has already waited longer than it may would wait no less. CoDel (K. Nichols, V. Jacobson, "Controlling Queue
Delay", 2012) and DAGOR (H. Zhou et al., "Overload Control for Scaling WeChat Microservices", 2018) decide by that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from trimtab_engine.limits.classes import ORDINARY, Rule
from trimtab_engine.limits.limits import Limits

LONGEST_RETRY_SECONDS = 60


class Why(StrEnum):
    """Why a request was refused, as a label of the counter."""

    QUEUE_FULL = "queue_full"
    WAIT_TOO_LONG = "wait_too_long"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is there when a request comes.

    `inside` are the requests that this server has accepted and not answered; `running` and `waiting` are the engine's
    own numbers of its last step; `seconds_per_completion` is the mean time between two completions while the engine had
    all it could run, None while that is not known; `waited_seconds` is how long the first of those that wait has, 0
    where nobody waits or where they are not taken in the order in which they came.
    """

    inside: int
    running: int = 0
    waiting: int = 0
    seconds_per_completion: float | None = None
    waited_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The answer is 429 with this reason, this sentence and these seconds in Retry-After."""

    why: Why
    message: str
    retry_after_seconds: int


def waiting(load: Load, limits: Limits) -> int:
    """Requests that wait for others.

    The engine's own number is that of its last step, and a burst has not reached it yet: those inside beyond what runs
    wait, too. It never exceeds what is inside, so that an old number refuses nobody for ever.
    """
    behind = load.inside - max(limits.max_running_requests, load.running)
    return max(0, behind, min(load.waiting, load.inside))


def _queue_has_room(load: Load, limits: Limits, rule: Rule) -> Refusal | None:
    bound, queued = limits.max_queued_requests, waiting(load, limits)
    most = None if bound is None else bound * rule.queue_percent // 100
    room_to_run = load.inside < limits.max_running_requests and queued == 0
    if most is None or room_to_run or queued < most:
        return None
    count = "1 request waits" if queued == 1 else f"{queued} requests wait"
    return Refusal(
        why=Why.QUEUE_FULL,
        message=f"The queue is full: {count}, and {most} may{_of_class(rule)}.",
        retry_after_seconds=_retry_after(load.seconds_per_completion),
    )


def _wait_is_short_enough(load: Load, limits: Limits, rule: Rule) -> Refusal | None:
    bound, each = limits.max_wait_seconds, load.seconds_per_completion
    most = None if bound is None else bound * rule.queue_percent / 100
    if most is None or load.inside < limits.max_running_requests:
        return None
    expected = max(load.waited_seconds, (waiting(load, limits) + 1) * (each or 0.0))
    if expected <= most:
        return None
    return Refusal(
        why=Why.WAIT_TOO_LONG,
        message=f"A request would wait for about {expected:.1f} s, and {most:g} s are allowed{_of_class(rule)}.",
        retry_after_seconds=_retry_after(expected - most),
    )


def _of_class(rule: Rule) -> str:
    return "" if rule.queue_percent == ORDINARY.queue_percent else " for one of its class"


def _retry_after(seconds: float | None) -> int:
    """Whole seconds, at least 1: a client that comes back at once would be refused again."""
    return 1 if seconds is None else max(1, min(LONGEST_RETRY_SECONDS, math.ceil(seconds)))


CHECKS: tuple[Callable[[Load, Limits, Rule], Refusal | None], ...] = (_queue_has_room, _wait_is_short_enough)


def admit(load: Load, limits: Limits, rule: Rule = ORDINARY) -> Refusal | None:
    """None where a request of this class's rule may come in; else the first check's refusal."""
    return next((refusal for check in CHECKS if (refusal := check(load, limits, rule)) is not None), None)

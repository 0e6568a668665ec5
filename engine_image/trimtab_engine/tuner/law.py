"""The control law: which limit moves next, and how far.

Slow start and then additive increase, multiplicative decrease: D.-M. Chiu, R. Jain, "Analysis of the Increase and
Decrease Algorithms for Congestion Avoidance in Computer Networks" (1989), and V. Jacobson, "Congestion Avoidance and
Control" (1988); D. Crankshaw et al., "Clipper" (NSDI 2017), section 4.3, set batch sizes under a latency objective this
way. Between `ROOM` and 1 of a target nothing moves: that band is the hysteresis.

The time between tokens belongs to what runs at once and to the tokens of a step; the time to the first token is the
wait for a place and then the prompt's own steps. So a slow first token is answered by more places where the time
between tokens has room, then by larger steps, and only then by refusing who would wait too long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from trimtab_engine.limits.limits import Capacity, Limits, limits_from_json
from trimtab_engine.tuner.facts import Action, Decision, Measured, Reason, Targets, ratio

ROOM = 0.85
# The share that is kept when a target is missed: Clipper's 10 %, and more where it is missed by more.
BACK_OFF = 0.9
LARGEST_BACK_OFF = 0.5
# Additive steps: so many to cross the whole range.
STEPS = 16
SHORTEST_WAIT = 0.1


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that the law looks at. `fast` is slow start; `blocked` names a limit that is not to be raised now; `start`
    are the limits that the tuner began with."""

    limits: Limits
    start: Limits
    capacity: Capacity
    targets: Targets
    measured: Measured
    fast: bool
    blocked: str = ""

    @property
    def itl(self) -> float | None:
        return ratio(self.measured.itl, self.targets.itl)

    @property
    def ttft(self) -> float | None:
        return ratio(self.measured.ttft, self.targets.ttft)

    @property
    def itl_has_room(self) -> bool:
        return self.itl is None or self.itl < ROOM

    @property
    def demand(self) -> bool:
        """Whether more would run if more could."""
        return self.measured.waiting > 0 and self.measured.running >= self.limits.max_running_requests


def decide(it: Situation) -> Decision:
    """The first rule that has something to do."""
    return next((found for rule in RULES if (found := rule(it)) is not None), _settled(it))


def _itl_too_high(it: Situation) -> Decision | None:
    """Fewer at once; where fewer may not be, smaller steps."""
    if it.itl is None or it.itl <= 1:
        return None
    said = f"p95 between tokens is {it.measured.itl:.3g} s, and the target {it.targets.itl:g} s"
    running = it.limits.max_running_requests
    # What never ran cannot be lowered away: the limit comes down to what runs, and then below.
    base = min(running, max(it.measured.running, 1))
    fewer = max(it.targets.fewest_running, min(base - 1, math.floor(base * _kept(it.itl))))
    if fewer < running:
        return _move(it, Action.LOWER, Reason.ITL_ABOVE_TARGET, "max_running_requests", fewer, said)
    return _smaller_step(it, said) or _bound(it, said)


def _smaller_step(it: Situation, said: str) -> Decision | None:
    tokens = it.limits.max_tokens_per_step
    floor = max(it.capacity.smallest_step, it.limits.max_running_requests * it.capacity.tokens_per_request)
    smaller = max(floor, math.floor(tokens * _kept(it.itl or 1)))
    if smaller >= tokens:
        return None
    return _move(it, Action.LOWER, Reason.ITL_ABOVE_TARGET, "max_tokens_per_step", smaller, said)


def _ttft_too_high(it: Situation) -> Decision | None:
    if it.ttft is None or it.ttft <= 1:
        return None
    said = f"p95 to the first token is {it.measured.ttft:.3g} s, and the target {it.targets.ttft:g} s"
    more = _more_running(it, Reason.TTFT_ABOVE_TARGET, said) or _larger_step(it, Reason.TTFT_ABOVE_TARGET, said)
    return more or _shorter_wait(it, said) or _bound(it, said)


def _requests_wait(it: Situation) -> Decision | None:
    """Throughput: as many at once as the targets allow."""
    if (it.ttft or 0) > 1 or not it.demand:
        return None
    said = f"{it.measured.waiting} requests wait while {it.measured.running} run, within the targets"
    return _more_running(it, Reason.REQUESTS_WAIT, said) or _larger_step(it, Reason.ROOM_IN_THE_STEP, said)


def _refuses_needlessly(it: Situation) -> Decision | None:
    wait = it.limits.max_wait_seconds
    if wait is None or wait == it.start.max_wait_seconds or not it.measured.refused:
        return None
    if it.ttft is None or it.ttft >= ROOM or it.targets.ttft is None:
        return None
    longer: float | None = round(wait + it.targets.ttft / 10, 3)
    highest = it.start.max_wait_seconds
    if longer is not None and longer >= (highest if highest is not None else 10 * it.targets.ttft):
        longer = highest
    said = f"{it.measured.refused} requests were refused, and p95 to the first token is {it.measured.ttft:.3g} s"
    return _move(it, Action.RAISE, Reason.WAIT_BELOW_TARGET, "max_wait_seconds", longer, said)


def _more_running(it: Situation, reason: Reason, said: str) -> Decision | None:
    running = it.limits.max_running_requests
    step = running if it.fast else max(1, it.capacity.running_requests // STEPS)
    # A step must have a token for each that runs.
    most = min(it.capacity.running_requests, it.limits.max_tokens_per_step // it.capacity.tokens_per_request)
    more = min(running + step, most)
    if more <= running or not it.demand or not it.itl_has_room or it.blocked == "max_running_requests":
        return None
    return _move(it, Action.RAISE, reason, "max_running_requests", more, said)


def _larger_step(it: Situation, reason: Reason, said: str) -> Decision | None:
    tokens, most = it.limits.max_tokens_per_step, it.capacity.tokens_per_step
    if tokens >= most or not it.itl_has_room or it.blocked == "max_tokens_per_step":
        return None
    larger = min(most, tokens * 2 if it.fast else tokens + max(1, most // STEPS))
    return _move(it, Action.RAISE, reason, "max_tokens_per_step", larger, said)


def _shorter_wait(it: Situation, said: str) -> Decision | None:
    """Refuse who would wait too long: at first beyond the target, then sooner."""
    if not it.targets.admission or it.measured.waiting == 0 or it.targets.ttft is None:
        return None
    wait = it.limits.max_wait_seconds
    shorter = it.targets.ttft if wait is None or wait > it.targets.ttft else wait * _kept(it.ttft or 1)
    shorter = round(max(SHORTEST_WAIT, shorter), 3)
    if wait is not None and shorter >= wait:
        return None
    return _move(it, Action.LOWER, Reason.TTFT_ABOVE_TARGET, "max_wait_seconds", shorter, said)


def _kept(over: float) -> float:
    return max(LARGEST_BACK_OFF, min(BACK_OFF, 1 / over))


def _move(it: Situation, action: Action, reason: Reason, limit: str, value: float | None, said: str) -> Decision:
    before = getattr(it.limits, limit)
    words = f"{said}: {limit} goes from {_number(before)} to {_number(value)}."
    limits = limits_from_json({**it.limits.as_json(), limit: value})
    return Decision(action=action, reason=reason, message=words, limits=limits, limit=limit, before=before, after=value)


def _bound(it: Situation, said: str) -> Decision:
    return Decision(
        action=Action.HOLD,
        reason=Reason.AT_THE_BOUND,
        message=f"{said}, and no limit is left to move.",
        limits=it.limits,
    )


def _settled(it: Situation) -> Decision:
    return Decision(
        action=Action.HOLD, reason=Reason.SETTLED, message="Nothing asks for another limit.", limits=it.limits
    )


def _number(value: float | None) -> str:
    return "no bound" if value is None else f"{value:g}"


RULES: tuple[Callable[[Situation], Decision | None], ...] = (
    _itl_too_high,
    _ttft_too_high,
    _requests_wait,
    _refuses_needlessly,
)

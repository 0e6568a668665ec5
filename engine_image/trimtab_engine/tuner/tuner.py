"""The tuner's memory: what was tried, whether it was worse, and the last limits that were good.

A change is kept for one window and then compared with the window before it. Where it missed a target that was met, or
where the engine was full in both and made fewer tokens, it is taken back, and the same is not tried again for a number
of windows that doubles each time. Requests that fail bring back the last limits that were good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trimtab_engine.limits.limits import Capacity, Limits
from trimtab_engine.tuner.facts import Action, Decision, Measured, Reason, Targets, worst
from trimtab_engine.tuner.law import ROOM, Situation, decide

# Windows differ by chance: less than this is no difference.
MARGIN = 0.05
# More failed requests than this bring the last good limits back.
FAILURES = 0.05
FIRST_BACK_OFF = 4
LONGEST_BACK_OFF = 64


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A change that is being tried: the limits before it, and what was measured then."""

    before: Limits
    measured: Measured
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The tuner between two decisions. `good` are the last limits whose window met the targets; `fast` is slow start;
    `back_off` counts the windows for which the limit `blocked` is not raised, `next_back_off` how many it will be."""

    start: Limits
    limits: Limits
    good: Limits
    good_measured: Measured | None = None
    first: Measured | None = None
    last: Measured | None = None
    trial: Trial | None = None
    fast: bool = True
    back_off: int = 0
    next_back_off: int = FIRST_BACK_OFF
    blocked: str = ""

    def effect(self, targets: Targets) -> float | None:
        """The gain since the start, 0.1 for a tenth: in tokens per second, where the targets are met as before."""
        if self.first is None or self.last is None:
            return None
        now, then = _merit(self.last, targets), _merit(self.first, targets)
        return now / then - 1 if then > 0 else None


def begin(limits: Limits) -> Memory:
    """The memory of a tuner that starts, or starts anew, with these limits."""
    return Memory(start=limits, limits=limits, good=limits)


def step(memory: Memory, measured: Measured, *, targets: Targets, capacity: Capacity) -> tuple[Memory, Decision]:
    """The next decision. `measured` is the window since the last change came into force."""
    if not _enough(measured, targets):
        return memory, _hold(memory, Reason.TOO_LITTLE_MEASURED, "Too few requests were measured.")
    memory = replace(memory, first=memory.first or measured, last=measured, back_off=max(0, memory.back_off - 1))
    if memory.back_off == 0:
        memory = replace(memory, blocked="")
    back = _failures(memory, measured) or _worse(memory, measured, targets)
    if back is not None:
        return _taken_back(memory, back), back
    memory = replace(_kept(memory, measured, targets), trial=None)
    decision = decide(
        Situation(
            limits=memory.limits,
            start=memory.start,
            capacity=capacity,
            targets=targets,
            measured=measured,
            fast=memory.fast and worst(measured, targets) < ROOM,
            blocked=memory.blocked,
        )
    )
    if not decision.changes:
        return memory, decision
    fast = memory.fast and decision.action is Action.RAISE
    trial = Trial(before=memory.limits, measured=measured, decision=decision)
    if decision.action is Action.LOWER:  # the engine is not what it was: what was best has to be found anew
        memory = replace(memory, good_measured=None)
    return replace(memory, limits=decision.limits, trial=trial, fast=fast), decision


def _enough(measured: Measured, targets: Targets) -> bool:
    """A p95 needs values: first tokens for the one target, gaps for the other; failures count by themselves."""
    needed = targets.fewest_requests
    if measured.ended >= needed and (measured.error_share or 0) > FAILURES:
        return True
    return (targets.ttft is None or measured.first_tokens >= needed) and (
        targets.itl is None or measured.gaps >= 4 * needed
    )


def _failures(memory: Memory, measured: Measured) -> Decision | None:
    if memory.limits == memory.good or measured.ended == 0 or (measured.error_share or 0) <= FAILURES:
        return None
    said = f"{100 * (measured.error_share or 0):.0f} % of {measured.ended} requests failed"
    return _back(memory.good, memory, Reason.REQUESTS_FAIL, said)


def _worse(memory: Memory, measured: Measured, targets: Targets) -> Decision | None:
    trial = memory.trial
    if trial is None or trial.decision.action is not Action.RAISE:
        return None  # what was lowered was lowered for a target, and is judged by it at the next step
    over, was = worst(measured, targets), worst(trial.measured, targets)
    if over > 1 and over > was * (1 + MARGIN):
        said = f"The worst p95 went from {was:.2f} to {over:.2f} of its target"
        return _back(trial.before, memory, Reason.WORSE_THAN_BEFORE, said)
    # The window before the trial, and the best one: many small losses in a row are a large one.
    for limits, then in ((trial.before, trial.measured), (memory.good, memory.good_measured)):
        if then is None or min(measured.waiting, then.waiting) == 0 or over < was > 1:
            continue  # too little to do says nothing of the limits, and a missed target comes before tokens
        if measured.tokens_per_second < then.tokens_per_second * (1 - MARGIN):
            said = f"The full engine went from {then.tokens_per_second:.4g}"
            said += f" to {measured.tokens_per_second:.4g} tokens per second"
            return _back(limits, memory, Reason.WORSE_THAN_BEFORE, said)
    return None


def _back(limits: Limits, memory: Memory, reason: Reason, said: str) -> Decision:
    limit = memory.trial.decision.limit if memory.trial else ""
    return Decision(
        action=Action.ROLL_BACK,
        reason=reason,
        message=f"{said}: back to the limits before.",
        limits=limits,
        limit=limit,
        before=getattr(memory.limits, limit) if limit else None,
        after=getattr(limits, limit) if limit else None,
    )


def _taken_back(memory: Memory, decision: Decision) -> Memory:
    """The same is not tried for a while, and for twice as long the next time."""
    return replace(
        memory,
        limits=decision.limits,
        trial=None,
        good_measured=None,
        fast=False,
        back_off=memory.next_back_off,
        next_back_off=min(LONGEST_BACK_OFF, 2 * memory.next_back_off),
        blocked=decision.limit or "max_running_requests",
    )


def _kept(memory: Memory, measured: Measured, targets: Targets) -> Memory:
    """The limits in force become the last good ones where they meet the targets, and a full engine is no slower."""
    best = memory.good_measured
    if (measured.error_share or 0) > FAILURES or worst(measured, targets) > 1:
        return memory
    full = best is not None and min(best.waiting, measured.waiting) > 0
    if best is not None and full and measured.tokens_per_second < best.tokens_per_second:
        return memory
    return replace(memory, good=memory.limits, good_measured=measured)


def _merit(measured: Measured, targets: Targets) -> float:
    """Tokens per second, less by as much as the worst target is missed."""
    return measured.tokens_per_second / max(1.0, worst(measured, targets))


def _hold(memory: Memory, reason: Reason, message: str) -> Decision:
    return Decision(action=Action.HOLD, reason=reason, message=message, limits=memory.limits)

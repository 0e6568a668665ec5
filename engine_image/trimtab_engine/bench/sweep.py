"""Tries the steps in turn: applies one, measures, keeps it or takes it back, and goes on from there."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from trimtab_engine.bench.hands import CannotError, Hands
from trimtab_engine.bench.ladder import OBJECTIVES, Judgement, Rung, Step, judge, kept_arguments, kept_limits
from trimtab_engine.bench.result import Scenario
from trimtab_engine.bench.server import RefusedError

Measure = Callable[[], Awaitable[Scenario]]
Judge = Callable[[Scenario, Scenario], Judgement]


def judge_by(objective: str, *, gain: float, loss: float, confidence: float) -> Judge:
    """The judge of a sweep."""
    return lambda before, after: judge(before, after, objective=objective, gain=gain, loss=loss, confidence=confidence)


async def sweep(
    hands: Hands,
    steps: Sequence[Step],
    measure: Measure,
    judged: Judge,
    *,
    objective: str,
    start: Mapping[str, Any],
    arguments: Sequence[str],
    tell: Callable[[Rung], None] = lambda _: None,
) -> list[Rung]:
    """The ladder. What was kept before is measured anew beside each step: a machine that became slower meanwhile would
    otherwise speak against the step. `start` and `arguments` are what the server has now; steps that were not kept, and
    everything if this ends by an error, are taken back."""
    rungs: list[Rung] = []
    try:
        for step in steps:
            rungs.append(await _try(hands, step, measure, judged, objective, start, arguments, rungs))
            tell(rungs[-1])
    except BaseException:
        await hands.set(start, arguments)
        raise
    return rungs


async def _try(
    hands: Hands,
    step: Step,
    measure: Measure,
    judged: Judge,
    objective: str,
    start: Mapping[str, Any],
    arguments: Sequence[str],
    rungs: Sequence[Rung],
) -> Rung:
    limits, flags = kept_limits(start, rungs), kept_arguments(arguments, rungs)
    before = await measure()
    applied, failed = 0.0, ""
    try:
        applied = await hands.set({**limits, **step.limits}, (*flags, *step.arguments))
        after = await measure()
        found = judged(before, after)
    except (CannotError, RefusedError) as error:  # the step cannot be; the next ones may
        failed, after, found = str(error), before, Judgement(kept=False, why=str(error), compared=())
    reverted = None
    if not found.kept:
        began = time.monotonic()
        await hands.set(limits, flags)
        reverted = time.monotonic() - began
    main = next((one for one in found.compared if one.metric == OBJECTIVES[objective]), None)
    return Rung(
        step=step,
        kept=found.kept,
        why=failed or found.why,
        objective=main.b if main else 0.0,
        ratio=main.ratio if main else None,
        low=main.low if main else None,
        high=main.high if main else None,
        apply_seconds=applied,
        revert_seconds=reverted,
    )

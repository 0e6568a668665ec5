"""Percentiles from means: simple distributions around what is known of the mechanism.

- TTFT: no request is faster than its own prefill and one step; what it waits beside is taken as exponential, as queues
  in heavy traffic are (Kingman, 1962).
- ITL: a gap between tokens is a decode step, or a step with a chunk of another request's prompt in it.
- End to end: the TTFT's deviation and the output length's, independent of each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from trimtab.plan.performance.closed_loop import Loop
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.step import Steps

# Quantiles of the unit exponential and of the standard normal distribution at 50, 95 and 99 %.
_EXPONENTIAL: Final = (0.6931, 2.9957, 4.6052)
_NORMAL: Final = (0.0, 1.6449, 2.3263)
_LEVELS: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, one entry per question."""

    mean: Floats
    p50: Floats
    p95: Floats
    p99: Floats


def ttft(steps: Steps, loop: Loop) -> Latency:
    """Waiting for admission varies in an open loop; a closed loop's turns are as long for all."""
    opened = np.isnan(steps.batch.clients)
    least = np.minimum(steps.engine("first") + steps.prefill + loop.step * steps.chunks, loop.served)
    fixed = least + np.where(opened, 0.0, loop.waiting)
    varying = loop.served - least + np.where(opened, loop.waiting, 0.0)
    return Latency(loop.ttft, *(fixed + varying * quantile for quantile in _EXPONENTIAL))


def itl(steps: Steps, loop: Loop) -> Latency:
    """Between tokens as engines count them: per step, also with speculative decoding."""
    per_request = steps.batch.output / steps.tokens_per_step
    hit = np.minimum(1.0, (loop.running - 1.0) * steps.chunks / steps.groups / np.maximum(per_request, 1.0))
    levels = (loop.step + np.where(hit > 1.0 - level, steps.chunk, 0.0) for level in _LEVELS)
    return Latency(loop.tpot * steps.tokens_per_step, *levels)


def e2e(steps: Steps, loop: Loop, first: Latency) -> Latency:
    decode = np.maximum(steps.batch.output - 1.0, 0.0) * loop.tpot
    mean = first.mean + decode
    spread = decode * steps.batch.output_variation
    levels = zip((first.p50, first.p95, first.p99), _NORMAL, strict=True)
    with np.errstate(invalid="ignore"):  # infinite less infinite in saturated points
        p50, p95, p99 = (
            mean + np.sign(at - first.mean) * np.hypot(at - first.mean, normal * spread) for at, normal in levels
        )
    endless = np.isinf(mean)
    return Latency(mean, *(np.where(endless, np.inf, level) for level in (p50, p95, p99)))

"""Percentiles from means: simple distributions around what is known of the mechanism.

- TTFT: no request is faster than its own prefill and one step; what it waits beside is taken as exponential, as queues
  in heavy traffic are (Kingman, 1962).
- ITL: a gap between tokens is a decode step, or a step with other requests' prompts in it, as many as arrive at once.
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
_MOST_PROMPTS: Final = 64  # that are thought to begin in one step


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
    least = np.minimum(steps.outside + steps.prefill + loop.step * steps.chunks, loop.served)
    fixed = least + np.where(opened, 0.0, loop.waiting)
    varying = loop.served - least + np.where(opened, loop.waiting, 0.0)
    return Latency(loop.ttft, *(fixed + varying * quantile for quantile in _EXPONENTIAL))


def itl(steps: Steps, loop: Loop) -> Latency:
    """Between tokens as engines count them: per step, also with speculative decoding.

    Whatever a step computes of new prompts, all running sequences wait for. In each step every running request ends
    with the same small probability and makes room for a new prompt, so the prompts of a step are Poisson distributed;
    where the token budget cuts them up, steps carry a full budget for the share of steps that all prompts take.
    """
    per_request = np.maximum(steps.batch.output / steps.tokens_per_step, 1.0)
    arriving = (loop.running - 1.0) / steps.groups / per_request
    budget = np.where(steps.batch.chunked, steps.batch.limits.step_tokens, np.inf)
    most = np.maximum(budget / steps.new_tokens, 1e-9)  # prompts, or the part of one, in a step
    cut = (most < 1.0) * np.minimum(1.0, arriving / most)
    levels = []
    for level in _LEVELS:
        prompts = _compound_quantile(arriving, steps.batch.prompt_variation, level)
        prompts = np.maximum(prompts, np.where(cut > 1.0 - level, most, 0.0))
        levels.append(loop.step + steps.prefill * np.minimum(prompts, most))
    return Latency(loop.tpot * steps.tokens_per_step, *levels)


def _compound_quantile(mean: Floats, variation: Floats, level: float) -> Floats:
    """The size that the sum of a Poisson number of prompts of mean size 1 does not exceed with probability `level`.

    Of the count that contains the level, the sizes are taken as normal with the given coefficient of variation.
    """
    counts = np.arange(_MOST_PROMPTS)
    logs = np.cumsum(np.log(np.maximum(counts, 1)))
    rate = np.maximum(mean, 1e-12)[:, None]
    chances = np.exp(counts * np.log(rate) - rate - logs)
    below = np.cumsum(chances, axis=1)
    count = np.minimum((below < level).sum(axis=1), _MOST_PROMPTS - 1)
    rows = np.arange(len(count))
    inside = (level - (below[rows, count] - chances[rows, count])) / np.maximum(chances[rows, count], 1e-300)
    spread = variation * np.sqrt(count) * _normal_quantile(np.clip(inside, 0.01, 0.99))
    return np.asarray(np.where(count > 0, np.maximum(count + spread, 0.0), 0.0))


def _normal_quantile(share: Floats) -> Floats:
    """Of the standard normal distribution (Abramowitz and Stegun, 26.2.23: within 4.5e-4)."""
    t = np.sqrt(-2.0 * np.log(np.minimum(share, 1.0 - share)))
    top = 2.515517 + t * (0.802853 + t * 0.010328)
    bottom = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return np.asarray(np.sign(share - 0.5) * (t - top / bottom))


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

"""Whether B is better than A, with what is sure about it. Pure.

The interval of a ratio is a percentile interval of the circular block bootstrap (Politis and Romano, "A circular
block-resampling procedure for stationary data", 1992; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 13, for the percentiles). Requests that come one after the other share batches and queues, so blocks of them are
drawn rather than single ones; their length is the cube root of the number of requests, as is optimal but for a constant
(Hall, Horowitz and Jing, "On blocking rules for the bootstrap with dependent data", Biometrika 82, 1995).

What one run cannot tell is how runs differ: a machine that slowed down between A and B looks like B. Measure in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from trimtab_engine.bench.result import Result, Scenario

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

DRAWS = 2000
FEWEST = 8  # values on each side; with fewer, blocks say nothing


class Verdict(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference that is sure"
    UNKNOWN = "too few values"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One metric of one scenario. `ratio` is B over A; `low` and `high` bound it with the wanted confidence."""

    scenario: str
    metric: str
    a: float
    b: float
    ratio: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is taken from a scenario: values in the order of time, and the statistic along the last axis."""

    name: str
    values: Callable[[Scenario], Sequence[float]]
    statistic: Statistic
    more_is_better: bool = False


def _median(values: Floats) -> Floats:
    return np.asarray(np.median(values, axis=-1))


def _p95(values: Floats) -> Floats:
    return np.asarray(np.quantile(values, 0.95, axis=-1))


def _mean(values: Floats) -> Floats:
    return np.asarray(np.mean(values, axis=-1))


def tokens_by_second(scenario: Scenario) -> list[float]:
    """Output tokens per second, in stretches of a fortieth of the run, at least half a second.

    The tokens of an answer are spread evenly from its first one to its end.
    """
    count = max(1, min(40, int(scenario.seconds / 0.5)))
    edges = np.linspace(0.0, scenario.seconds, count + 1)
    counted = np.zeros(count)
    for sample in scenario.answered:
        begin, end = sample.began + (sample.ttft or 0.0), sample.began + sample.seconds
        inside = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0.0, None)
        if end > begin:
            counted += sample.output_tokens * inside / (end - begin)
    return [float(value) for value in counted * count / scenario.seconds]


METRICS = (
    Metric(name="tokens per second", values=tokens_by_second, statistic=_mean, more_is_better=True),
    Metric(name="TTFT p50", values=lambda it: it.latencies("ttft"), statistic=_median),
    Metric(name="TTFT p95", values=lambda it: it.latencies("ttft"), statistic=_p95),
    Metric(name="time per token p50", values=lambda it: it.latencies("tpot"), statistic=_median),
    Metric(name="end to end p50", values=lambda it: it.latencies("e2e"), statistic=_median),
    Metric(name="end to end p95", values=lambda it: it.latencies("e2e"), statistic=_p95),
)


def compare(a: Result, b: Result, *, confidence: float = 0.95, seed: int = 0) -> list[Compared]:
    """Every metric of every scenario that both have."""
    found = []
    for one in a.scenarios:
        other = b.scenario(one.name)
        if other is not None:
            found += compare_scenarios(one, other, confidence=confidence, seed=seed)
    return found


def compare_scenarios(a: Scenario, b: Scenario, *, confidence: float = 0.95, seed: int = 0) -> list[Compared]:
    """Every metric that both have values of."""
    found = []
    for metric in METRICS:
        first, second = (np.asarray(metric.values(one), dtype=float) for one in (a, b))
        if len(first) and len(second) and metric.statistic(first) > 0:
            found.append(_compared(a.name, metric, first, second, confidence, np.random.default_rng(seed)))
    return found


def _compared(
    name: str, metric: Metric, a: Floats, b: Floats, confidence: float, source: np.random.Generator
) -> Compared:
    before, after = float(metric.statistic(a)), float(metric.statistic(b))
    low, high = interval(a, b, metric.statistic, confidence=confidence, source=source)
    if min(len(a), len(b)) < FEWEST or not np.isfinite([low, high]).all():
        verdict = Verdict.UNKNOWN
    elif low > 1.0:
        verdict = Verdict.BETTER if metric.more_is_better else Verdict.WORSE
    elif high < 1.0:
        verdict = Verdict.WORSE if metric.more_is_better else Verdict.BETTER
    else:
        verdict = Verdict.SAME
    return Compared(
        scenario=name,
        metric=metric.name,
        a=before,
        b=after,
        ratio=after / before,
        low=low,
        high=high,
        verdict=verdict,
    )


def interval(
    a: Floats, b: Floats, statistic: Statistic, *, confidence: float, source: np.random.Generator
) -> tuple[float, float]:
    """Bounds of the ratio of the statistic, B over A."""
    drawn_a, drawn_b = (statistic(blocks(values, source)) for values in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = drawn_b / drawn_a
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios):
        return float("nan"), float("nan")
    outside = (1.0 - confidence) / 2.0
    low, high = np.quantile(ratios, [outside, 1.0 - outside])
    return float(low), float(high)


def blocks(values: Floats, source: np.random.Generator, draws: int = DRAWS) -> Floats:
    """`draws` rows as long as `values`, each of blocks of it that may go over its end to its beginning."""
    count = len(values)
    length = max(1, round(count ** (1 / 3)))
    starts = source.integers(0, count, size=(draws, -(-count // length)))
    places = (starts[:, :, None] + np.arange(length)) % count
    return np.asarray(values[places.reshape(draws, -1)[:, :count]])

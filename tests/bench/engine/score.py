"""Errors of cases that were not learned from, and whether each knob's effect has the right sign."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from tests.bench.engine.cases import Effect, Suite
from tests.bench.engine.measure import Measured, median
from tests.bench.engine.predict import candidates, learned
from tests.bench.planner.report import Result, results
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.point import ServingPoint, Traffic

OBSERVED: Final = 3
DRAWS: Final = 40
METRICS: Final = ("throughput", "ttft", "itl_p95")
# An effect counts when it is larger than this many standard deviations of a difference between two repeats.
_SURE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Sign:
    """An effect as natural logarithms of new over old; `noise` is what counts as none."""

    effect: Effect
    metric: str
    measured: float
    predicted: float
    noise: float

    @property
    def counts(self) -> bool:
        return abs(self.measured) > self.noise

    @property
    def right(self) -> bool:
        return self.measured * self.predicted > 0


@dataclass(frozen=True, slots=True)
class Scores:
    """Throughput errors as shares; `first` is what the planner says before it has seen anything."""

    first: Floats
    after: Floats
    worst_draw: float
    signs: Sequence[Sign]
    before: Mapping[str, Floats]
    typical: Mapping[str, Floats]  # after learning, per case the median of the draws that did not learn from it


def scores(
    suite: Suite, points: Sequence[ServingPoint], traffic: Sequence[Traffic], found: Mapping[str, Sequence[Measured]]
) -> Scores:
    truth = {metric: np.array([median(found[case.name], metric) for case in suite.cases]) for metric in METRICS}
    model = candidates(points, traffic)
    before = {metric: estimate.median for metric, estimate in model.metrics.items()}
    after, medians, effects = [], [], []
    each = {metric: np.full((DRAWS, len(points)), np.nan) for metric in METRICS}
    for number, drawn in enumerate(draws(len(points))):
        then = learned(model, {row: {metric: float(truth[metric][row]) for metric in METRICS} for row in drawn})
        rest = np.setdiff1d(np.arange(len(points)), drawn)
        errors = np.abs(then["throughput"][rest] / truth["throughput"][rest] - 1.0)
        after.append(errors)
        medians.append(float(np.median(errors)))
        effects.append(_effects(suite, then))
        for metric in METRICS:
            each[metric][number, rest] = then[metric][rest]
    noise = {metric: _noise(found, metric) for metric in METRICS}
    signs = [
        Sign(
            effect=effect,
            metric=metric,
            measured=_log_ratio(suite, truth[metric], effect),
            predicted=float(np.median([drawn[number, n] for drawn in effects])),
            noise=noise[metric],
        )
        for number, effect in enumerate(suite.effects)
        for n, metric in enumerate(METRICS)
    ]
    return Scores(
        first=np.abs(before["throughput"] / truth["throughput"] - 1.0),
        after=np.concatenate(after),
        worst_draw=max(medians),
        signs=signs,
        before=before,
        typical={metric: np.nanmedian(values, axis=0) for metric, values in each.items()},
    )


def draws(rows: int) -> list[tuple[int, ...]]:
    """Evenly from all choices of the rows that are learned from, in order: nobody picks favourable ones."""
    every = list(combinations(range(rows), OBSERVED))
    chosen = np.random.default_rng(0).choice(len(every), min(DRAWS, len(every)), replace=False)
    return [every[number] for number in sorted(chosen)]


def _effects(suite: Suite, found: Mapping[str, Floats]) -> Floats:
    return np.array([[_log_ratio(suite, found[metric], effect) for metric in METRICS] for effect in suite.effects])


def _log_ratio(suite: Suite, values: Floats, effect: Effect) -> float:
    names = [case.name for case in suite.cases]
    return math.log(values[names.index(effect.new)] / values[names.index(effect.old)])


def _noise(found: Mapping[str, Sequence[Measured]], metric: str) -> float:
    """Of the difference between two cases, each of them the median of its repeats, pooled over all cases."""
    groups = [np.log([float(getattr(one, metric)) for one in repeats]) for repeats in found.values()]
    freedom = sum(len(group) - 1 for group in groups)
    variance = sum(float(np.sum(np.square(group - group.mean()))) for group in groups) / max(freedom, 1)
    fewest = min(len(group) for group in groups)
    return _SURE * math.sqrt(2.0 * variance / fewest)


def summary(found: Scores) -> list[Result]:
    name = "real vLLM"
    counted = {metric: [s for s in found.signs if s.metric == metric and s.counts] for metric in METRICS}
    wrong = {metric: sum(not s.right for s in signs) for metric, signs in counted.items()}
    rows = [
        (f"{name}: throughput error before any observation, median", 100 * float(np.median(found.first)), "%", None),
        (f"{name}: throughput error after 3 observed, median", 100 * float(np.median(found.after)), "%", 15.0),
        (f"{name}: throughput error after 3 observed, p90", 100 * float(np.percentile(found.after, 90)), "%", None),
        (f"{name}: the same, median of the worst draw", 100 * found.worst_draw, "%", None),
    ]
    for metric, title in zip(METRICS, ("throughput", "TTFT", "ITL p95"), strict=True):
        rows.append((f"{name}: effects on {title} beyond the noise", float(len(counted[metric])), "effects", None))
        rows.append((f"{name}: of these, with the wrong sign", float(wrong[metric]), "effects", 0.0))
    return results(*rows)

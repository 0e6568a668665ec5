"""What both sides measured, for people and for the history of attempts: nothing is decided from it."""

from __future__ import annotations

import math

import numpy as np

from trimtab.judge.history import Flags, HistogramSeries
from trimtab.judge.sequential.case import Case
from trimtab.model.histogram import Histogram


def measured(case: Case) -> dict[str, float]:
    """Mean and p95 of each latency on both sides, seconds, over the intervals that count; where none does, over all."""
    found: dict[str, float] = {}
    for latency, series in case.history.histograms.items():
        for name, members in (("canary", case.history.canary), ("stable", case.history.stable)):
            whole = _pooled(series, case.usable, members) or _pooled(series, np.ones_like(case.usable), members)
            if whole is not None:
                found[f"{name}.{latency.value}.mean"] = whole.mean
                found[f"{name}.{latency.value}.p95"] = whole.quantile(0.95)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _pooled(series: HistogramSeries, good: Flags, members: Flags) -> Histogram | None:
    """All observations of these pods in the intervals that are `good`; None without any."""
    known = good & np.isfinite(series.count) & np.isfinite(series.total) & members[None, :]
    below = series.below[known].sum(axis=0)
    if not known.any() or not below[-1] > 0:
        return None
    return Histogram(tuple(series.bounds), tuple(np.maximum.accumulate(below)), float(series.total[known].sum()))

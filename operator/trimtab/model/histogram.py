"""A Prometheus histogram over one window: what every latency in this project is computed from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of observations at or below each bound during a window.

    `bounds` ascend and end with +inf; `cumulative[i]` is the number of observations <= bounds[i], so the last entry
    is the number of observations. Counts may be fractional, because PromQL's `increase` extrapolates. `total` is the
    sum of the observed values in their own unit (seconds, tokens).
    """

    bounds: tuple[float, ...]
    cumulative: tuple[float, ...]
    total: float

    def __post_init__(self) -> None:
        if len(self.bounds) != len(self.cumulative):
            raise ValueError("bounds and cumulative differ in length")
        if self.bounds and self.bounds[-1] != math.inf:
            raise ValueError("the last bound must be +inf")

    @property
    def count(self) -> float:
        """The number of observations in the window."""
        return self.cumulative[-1] if self.cumulative else 0.0

    @property
    def mean(self) -> float:
        """The mean of the observations; NaN when there are none."""
        return self.total / self.count if self.count > 0 else math.nan

    def quantile(self, q: float) -> float:
        """The q-quantile by linear interpolation inside its bucket, as PromQL's `histogram_quantile` does.

        NaN without observations; the last finite bound when the quantile falls into the +inf bucket.
        """
        if self.count <= 0:
            return math.nan
        rank = q * self.count
        lower, below = 0.0, 0.0
        for bound, cumulative in zip(self.bounds, self.cumulative, strict=True):
            if cumulative >= rank and cumulative > below:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / (cumulative - below)
            lower, below = bound, cumulative
        return lower

    def share_above(self, threshold: float) -> float:
        """The share of observations above `threshold`, interpolated inside the bucket that holds it; NaN when empty."""
        if self.count <= 0:
            return math.nan
        lower, below = 0.0, 0.0
        for bound, cumulative in zip(self.bounds, self.cumulative, strict=True):
            if threshold <= bound:
                if math.isinf(bound):
                    return (self.count - below) / self.count
                inside = (threshold - lower) / (bound - lower) if bound > lower else 1.0
                return (self.count - (below + inside * (cumulative - below))) / self.count
            lower, below = bound, cumulative
        return 0.0


def merged(histograms: Iterable[Histogram]) -> Histogram | None:
    """The sum of histograms with equal bounds; None when there are none. Raises ValueError when bounds differ."""
    items = list(histograms)
    if not items:
        return None
    if any(item.bounds != items[0].bounds for item in items):
        raise ValueError("histograms with different bounds cannot be merged")
    columns = zip(*(item.cumulative for item in items), strict=True)
    return Histogram(items[0].bounds, tuple(sum(column) for column in columns), sum(item.total for item in items))

"""What the sequential judge looks at: per interval and pod, what was added to each histogram and counter.

Columnar, because a look at an hour of five pods must cost about a millisecond: every array has the intervals along its
first axis and the pods along its second. NaN stands for what is not known: never zero, never a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trimtab.model.samples import (
    COUNTERS,
    ERRORS,
    GAUGES,
    KV_USAGE,
    PREEMPTIONS,
    REQUESTS,
    RESTARTS,
    RUNNING,
    TOKENS,
    WAITING,
    Floats,
)
from trimtab.model.slo import Latency

Flags = NDArray[np.bool_]

__all__ = [
    "COUNTERS",
    "ERRORS",
    "GAUGES",
    "KV_USAGE",
    "PREEMPTIONS",
    "REQUESTS",
    "RESTARTS",
    "RUNNING",
    "TOKENS",
    "WAITING",
    "Flags",
    "Floats",
    "HistogramSeries",
    "History",
]


@dataclass(frozen=True, slots=True)
class HistogramSeries:
    """One latency. `bounds` (B) in seconds, ascending, the last +inf; `below` (K, P, B): observations at or below each
    bound; `total` (K, P): the sum of what was observed, seconds.
    """

    bounds: Floats
    below: Floats
    total: Floats

    @property
    def count(self) -> Floats:
        """Observations per interval and pod (K, P)."""
        return self.below[:, :, -1]

    def until(self, looks: int) -> HistogramSeries:
        return HistogramSeries(self.bounds, self.below[:looks], self.total[:looks])


@dataclass(frozen=True, slots=True)
class History:
    """K intervals of `interval` seconds of P pods; `canary` (P) marks those on trial, all others are stable.

    `counters` (K, P) hold increases, `gauges` (K, P) the last value in the interval, `resets` (K, P) how often a pod's
    counters began anew, `invalid` (K, P) whether a value was not a number, `unseen` (K, P) whether no scrape fell into
    it, so that what came then counts in a later one. A metric that no pod has is absent.
    `unknown_names`: series whose names mean nothing here, for the sentence that says what is missing. `began`: the
    instant at which the first interval begins, seconds.
    """

    interval: float
    pods: tuple[str, ...]
    canary: Flags
    histograms: Mapping[Latency, HistogramSeries]
    counters: Mapping[str, Floats]
    gauges: Mapping[str, Floats]
    resets: Floats
    invalid: Flags
    unseen: Flags
    began: float = 0.0
    unknown_names: tuple[str, ...] = field(default=())

    @property
    def looks(self) -> int:
        """K, the number of intervals."""
        return int(self.resets.shape[0])

    @property
    def stable(self) -> Flags:
        return ~self.canary

    def until(self, looks: int) -> History:
        """What was known after the first `looks` intervals. Views, not copies."""
        return History(
            interval=self.interval,
            pods=self.pods,
            canary=self.canary,
            histograms={name: series.until(looks) for name, series in self.histograms.items()},
            counters={name: values[:looks] for name, values in self.counters.items()},
            gauges={name: values[:looks] for name, values in self.gauges.items()},
            resets=self.resets[:looks],
            invalid=self.invalid[:looks],
            unseen=self.unseen[:looks],
            began=self.began,
            unknown_names=self.unknown_names,
        )

    def requests(self) -> Floats:
        """Requests that ended, per interval and pod (K, P); NaN where no series tells."""
        if REQUESTS in self.counters:
            return self.counters[REQUESTS]
        for latency in (Latency.E2E, Latency.TTFT):
            if latency in self.histograms:
                return self.histograms[latency].count
        return np.full(self.resets.shape, np.nan)

    def at_work(self) -> Floats:
        """Requests that a pod worked on in an interval, at least (K, P): those that ended, or as many as ran when it
        ended where these are more. A stream that takes minutes shows its tokens long before its end.
        """
        ended = self.requests()
        return np.fmax(ended, self.gauges[RUNNING]) if RUNNING in self.gauges else ended

    def observed(self, latency: Latency) -> Floats:
        """Requests that a latency was observed of (K, P): tokens of one stream are no evidence apart."""
        return np.minimum(self.histograms[latency].count, self.at_work())

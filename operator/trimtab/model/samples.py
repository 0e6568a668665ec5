"""What Prometheus remembers of one pod over a trial: cumulative values, as they were scraped.

Names of metrics that are no latencies stand here as well, because who reads them and who judges them must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.model.slo import Latency

Floats = NDArray[np.float64]

REQUESTS, ERRORS, PREEMPTIONS, RESTARTS = "requests_total", "errors_total", "preemptions_total", "restarts_total"
TOKENS = "generation_tokens_total"
RUNNING, WAITING, KV_USAGE = "running", "waiting", "kv_cache_usage"
COUNTERS = (REQUESTS, ERRORS, PREEMPTIONS, RESTARTS, TOKENS)
GAUGES = (RUNNING, WAITING, KV_USAGE)


@dataclass(frozen=True, slots=True)
class Samples:
    """One series of one pod. `times` (T) seconds, ascending; `values` (T, C): one column for a counter or gauge; for a
    histogram the observations at or below each of `bounds` (C - 1, ascending, the last +inf), then their sum.
    """

    times: Floats
    values: Floats
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PodSamples:
    """All series of one pod by the name of the metric (`Latency` members for histograms).

    `scraped` (seconds, ascending): the times of samples at which there was a new scrape; the others repeat the one
    before. None: there was one at each.
    """

    name: str
    canary: bool
    histograms: Mapping[Latency, Samples]
    counters: Mapping[str, Samples]
    gauges: Mapping[str, Samples]
    scraped: Floats | None = None

"""Service level objectives: latency thresholds at a percentile, an error budget, a throughput floor."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_TARGET: Final = re.compile(r"([a-z0-9]+)\.p(\d{1,2})=([0-9.]+(?:e-?\d+)?)(ms|s)", re.ASCII)
_UNITS: Final = {"ms": 1e-3, "s": 1.0}


class Latency(StrEnum):
    """The latencies that can carry an objective."""

    TTFT = "ttft"  # time to first token
    ITL = "itl"  # inter-token latency
    E2E = "e2e"  # end-to-end request latency


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """`metric` at `percentile` (50, 95, 99) is at most `seconds`: the share above is at most 1 - percentile/100."""

    metric: Latency
    percentile: int
    seconds: float

    @property
    def allowed_share(self) -> float:
        return 1.0 - self.percentile / 100.0

    @property
    def name(self) -> str:
        return f"{self.metric.value}.p{self.percentile}"

    @classmethod
    def parse(cls, text: str) -> LatencyTarget:
        """As a person writes it: `ttft.p95=500ms`, `itl.p99=0.05s`. Raises ValueError with a sentence for a person."""
        known = ", ".join(latency.value for latency in Latency)
        found = _TARGET.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(f"{text!r} is no target; write one like ttft.p95=500ms (of {known}; in ms or s)")
        metric, percentile, value, unit = found.groups()
        if metric not in set(Latency):
            raise ValueError(f"{text!r} names the latency {metric}; there are {known}")
        try:
            seconds = float(value) * _UNITS[unit]
        except ValueError:
            raise ValueError(f"{text!r}: {value} is no number") from None
        if not 0 < seconds < math.inf or int(percentile) < 1:
            raise ValueError(f"{text!r}: the percentile and the time must be greater than 0")
        return cls(Latency(metric), int(percentile), seconds)


@dataclass(frozen=True, slots=True)
class Slo:
    """All objectives of one deployment; an empty one means that only the comparison with stable counts."""

    latencies: tuple[LatencyTarget, ...] = ()
    max_error_share: float | None = None
    min_output_tokens_per_second: float | None = None

    @property
    def is_empty(self) -> bool:
        return not self.latencies and self.max_error_share is None and self.min_output_tokens_per_second is None

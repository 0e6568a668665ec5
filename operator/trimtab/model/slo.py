"""Service level objectives: latency thresholds at a percentile, an error budget, a throughput floor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class Slo:
    """All objectives of one deployment; an empty one means that only the comparison with stable counts."""

    latencies: tuple[LatencyTarget, ...] = ()
    max_error_share: float | None = None
    min_output_tokens_per_second: float | None = None

    @property
    def is_empty(self) -> bool:
        return not self.latencies and self.max_error_share is None and self.min_output_tokens_per_second is None

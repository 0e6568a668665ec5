"""What a canary is held to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from trimtab.model.plan import Metric
from trimtab.model.slo import Latency, LatencyTarget, Slo

DEFAULT_MARGINS: Mapping[Latency, float] = {Latency.ITL: 0.10, Latency.TTFT: 0.20, Latency.E2E: 0.20}
TRADED: Mapping[Latency, Metric] = {Latency.TTFT: Metric.TTFT, Latency.ITL: Metric.ITL, Latency.E2E: Metric.E2E}
LABEL: Mapping[Latency, str] = {Latency.TTFT: "TTFT", Latency.ITL: "ITL", Latency.E2E: "End-to-end latency"}


@dataclass(frozen=True, slots=True)
class Policy:
    """`margins`: how much worse than stable a latency may be, as a share (0.10 is 10 %). `trades`: what the plan gives
    away; judged by its objective alone, which must then hold with `traded_headroom` on its threshold. `promises`: what
    the plan claims to gain, as a relative change (-0.15 is 15 % less). `canary_share`: the share of the traffic that
    the router is configured to send to all canary pods together, where it is known. `more_to_come`: a larger share
    follows, at which it is judged anew, so that one which gives its pods less need not be comparable. `warm_up`:
    seconds from a pod's first finished request (and from a restart) that say nothing about its speed.

    `alone`: no stable pod is ready, so there is nothing to compare with and objectives decide (the repair of a service
    that is down). `watching`: the canary has been promoted, which leaves it alone as well; `before`, the evidence of
    the verdict that promoted, then stands in for stable: what stable broke beside the canary is no regression now.
    """

    slo: Slo = field(default_factory=Slo)
    margins: Mapping[Latency, float] = field(default_factory=dict)
    trades: frozenset[Metric] = frozenset()
    promises: Mapping[Latency, float] = field(default_factory=dict)
    minimum_requests: int = 50
    canary_share: float | None = None
    more_to_come: bool = False
    warm_up: float = 15.0
    traded_headroom: float = 0.9
    error_margin: float = 0.005  # of requests, more than stable's
    alone: bool = False
    watching: bool = False
    before: Mapping[str, float] = field(default_factory=dict)

    @property
    def meant_smaller(self) -> bool:
        """Whether the canary carries less than stable's pods because it was given less for now."""
        return self.canary_share is not None and self.more_to_come

    def margin(self, latency: Latency) -> float:
        """The margin on the logarithm of the ratio canary/stable."""
        return math.log1p(self.margins.get(latency, DEFAULT_MARGINS[latency]))

    def traded(self, latency: Latency) -> bool:
        return TRADED[latency] in self.trades

    def targets(self, latency: Latency) -> tuple[LatencyTarget, ...]:
        return tuple(target for target in self.slo.latencies if target.metric is latency)

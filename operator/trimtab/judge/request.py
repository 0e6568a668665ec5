"""What a judgement is asked with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trimtab.model.histogram import Histogram
from trimtab.model.plan import Metric
from trimtab.model.reading import Known, Reading
from trimtab.model.slo import Latency, Slo
from trimtab.model.snapshot import RevisionView


@dataclass(frozen=True, slots=True)
class Margin:
    """Ratios canary/stable of a latency: up to `good` it is no worse, beyond `bad` (with its noise) it is worse."""

    good: float
    bad: float


@dataclass(frozen=True, slots=True)
class Margins:
    """How far a canary may be from stable. The defaults suit pods on shared CPUs, of which two alike differ by 40 %."""

    latency: Mapping[Latency, Margin] = field(
        default_factory=lambda: {
            Latency.TTFT: Margin(1.5, 2.0),
            Latency.ITL: Margin(1.35, 1.6),
            Latency.E2E: Margin(1.4, 1.7),
        }
    )
    tail_good_share: float = 0.10  # of canary requests beyond stable's p95 and the good margin
    tail_bad_share: float = 0.15
    error_share: float = 0.005  # more than stable's
    errors_without_reference: float = 0.05  # no objective and no stable readings
    load: float = 1.25  # beyond this ratio of requests per pod, latencies cannot be compared
    traded_headroom: float = 0.9  # a traded metric must keep its objective with this factor on the threshold


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """Both revisions over the SAME window, which began when the canary had served and warmed up.

    `elapsed`: seconds of that window. `watching`: the canary has been promoted and carries everything; `stable` is then
    empty. `canary_share`: the share of the traffic that the router is configured to send to the canary, 0 to 1; None
    when it is by replicas, then the load is taken from the counts. `before`: the evidence of the verdict that promoted,
    which while watching stands in for the stable pods that are gone: an objective that stable broke then is no
    regression now.
    """

    stable: RevisionView
    canary: RevisionView
    slo: Slo
    trades: frozenset[Metric] = frozenset()
    elapsed: float = 0.0
    minimum_requests: int = 30
    margins: Margins = field(default_factory=Margins)
    watching: bool = False
    canary_share: float | None = None
    before: Mapping[str, float] = field(default_factory=dict)
    metrics: Reading[bool] = field(default_factory=lambda: Known(True))  # whether readings can be had at all


def histogram(view: RevisionView, latency: Latency) -> Reading[Histogram]:
    """One latency of a revision, seconds, pooled over its ready pods."""
    if latency is Latency.TTFT:
        return view.pooled(lambda metrics: metrics.ttft)
    if latency is Latency.ITL:
        return view.pooled(lambda metrics: metrics.itl)
    return view.pooled(lambda metrics: metrics.e2e)


def requests(view: RevisionView, elapsed: float) -> Reading[float]:
    """How many requests of a revision ended in the window, however they ended."""
    rate = view.summed(lambda metrics: metrics.request_rate)
    if isinstance(rate, Known):
        window = rate.window or elapsed
        return Known(rate.value * window, window=window, samples=rate.value * window)
    finished = histogram(view, Latency.E2E)
    if isinstance(finished, Known):
        return Known(finished.value.count, window=finished.window or elapsed, samples=finished.value.count)
    return rate


def errors(view: RevisionView, elapsed: float) -> Reading[float]:
    """How many of them ended in an error or were refused."""
    rate = view.summed(lambda metrics: metrics.error_rate)
    if not isinstance(rate, Known):
        return rate
    window = rate.window or elapsed
    return Known(rate.value * window, window=window, samples=rate.samples)


TRADED: Mapping[Latency, Metric] = {Latency.TTFT: Metric.TTFT, Latency.ITL: Metric.ITL, Latency.E2E: Metric.E2E}
LABEL: Mapping[Latency, str] = {Latency.TTFT: "TTFT", Latency.ITL: "ITL", Latency.E2E: "End-to-end latency"}

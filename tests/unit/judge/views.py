"""Builds what the judge is asked: revisions whose pods answered so many requests, so fast, with so many errors."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from trimtab.judge import JudgeRequest
from trimtab.model.histogram import Histogram
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.snapshot import ObservedPod, PodFacts, PodMetrics, RevisionView

BOUNDS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.4, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 20.0, math.inf)
TOKENS = 50  # output tokens per request
GONE = Unknown(Why.STALE, "The newest sample is 90 s old.")
SLO = Slo(
    latencies=(LatencyTarget(Latency.TTFT, 95, 0.6), LatencyTarget(Latency.ITL, 95, 0.15)),
    max_error_share=0.01,
)


def histogram(values: Iterable[float]) -> Histogram:
    """The histogram that an engine would export for these observations."""
    found = list(values)
    counts = [0.0] * len(BOUNDS)
    for value in found:
        counts[bisect.bisect_left(BOUNDS, value)] += 1
    running, cumulative = 0.0, []
    for count in counts:
        running += count
        cumulative.append(running)
    return Histogram(BOUNDS, tuple(cumulative), sum(found))


def spread(count: int, typical: float, tail: float | None = None) -> list[float]:
    """`count` values around `typical`, a deterministic bell from 0.7 to 1.4 times; every twentieth is `tail`."""
    values = [typical * (0.7 + 0.7 * ((7 * index) % max(count, 1)) / max(count, 1)) for index in range(count)]
    if tail is not None:
        values[:: max(1, min(20, count))] = [tail] * len(values[:: max(1, min(20, count))])
    return values


@dataclass(frozen=True)
class Answers:
    """What one revision did in the window, over all its pods."""

    requests: int = 60
    ttft: float = 0.3
    itl: float = 0.04
    slow: int = 0  # requests whose TTFT is 3 s
    errors: int = 0
    running: float = 2.0
    waiting: float = 0.0
    pods: int = 1
    window: float = 60.0
    unreadable: tuple[str, ...] = ()  # metrics that are Unknown
    why: Unknown = GONE

    def view(self, revision: str) -> RevisionView:
        done = self.requests - self.errors
        fast = spread(max(0, done - self.slow), self.ttft)
        ttft = fast + [3.0] * min(self.slow, done)
        itl = spread(done, self.itl)
        whole = histogram(itl)
        tokens = Histogram(BOUNDS, tuple(TOKENS * count for count in whole.cumulative), TOKENS * whole.total)
        e2e = [first + TOKENS * self.itl for first in ttft]
        return RevisionView(
            revision,
            tuple(
                self._pod(f"{revision}-{index}", revision, histogram(ttft), tokens, histogram(e2e))
                for index in range(self.pods)
            ),
        )

    def _pod(self, name: str, revision: str, ttft: Histogram, itl: Histogram, e2e: Histogram) -> ObservedPod:
        part = 1.0 / self.pods
        metrics = PodMetrics(
            ttft=self._known(_part(ttft, part)),
            itl=self._known(_part(itl, part)),
            e2e=self._known(_part(e2e, part)),
            request_rate=Known(part * self.requests / self.window, self.window, part * self.requests),
            error_rate=Known(part * self.errors / self.window, self.window, part * self.requests),
            output_token_rate=Known(part * TOKENS * self.requests / self.window, self.window, part * self.requests),
            running=Known(part * self.running, self.window, 4.0),
            waiting=Known(part * self.waiting, self.window, 4.0),
        )
        metrics = replace(metrics, **dict.fromkeys(self.unreadable, self.why))
        return ObservedPod(PodFacts(name, revision, ready=True), metrics)

    def _known(self, value: Histogram) -> Reading[Histogram]:
        if value.count <= 0:
            return Unknown(Why.NO_TRAFFIC, "No request in the window.")
        return Known(value, self.window, value.count)


def _part(whole: Histogram, share: float) -> Histogram:
    return Histogram(whole.bounds, tuple(share * count for count in whole.cumulative), share * whole.total)


NO_PODS = RevisionView("stable", ())


def asked(
    canary: Answers, stable: Answers | None = Answers(requests=120, pods=2), slo: Slo = SLO, **others: object
) -> JudgeRequest:
    values: dict[str, object] = {"elapsed": canary.window, "minimum_requests": 30, **others}
    view = NO_PODS if stable is None else stable.view("stable")
    return JudgeRequest(stable=view, canary=canary.view("canary"), slo=slo, **values)  # type: ignore[arg-type]


def pods_with(revision: str, values: Sequence[Sequence[tuple[float, float]]], window: float) -> RevisionView:
    """Pods from their requests' (TTFT, ITL) pairs."""
    pods = []
    for index, seen in enumerate(values):
        itl = histogram(pair[1] for pair in seen)
        answers = Answers(requests=len(seen), window=window)
        pods.append(
            answers._pod(
                f"{revision}-{index}",
                revision,
                histogram(pair[0] for pair in seen),
                Histogram(BOUNDS, tuple(TOKENS * count for count in itl.cumulative), TOKENS * itl.total),
                histogram(pair[0] + TOKENS * pair[1] for pair in seen),
            )
        )
    return RevisionView(revision, tuple(pods))

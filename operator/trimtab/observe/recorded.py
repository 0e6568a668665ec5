"""From the ranges of a pod's series to its cumulative samples, as the judge takes them; pure.

A range query carries a value on for five minutes where a scrape is missing, so each step also says when its newest
sample was taken, and steps whose sample is too old are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from trimtab.model.samples import (
    ERRORS,
    KV_USAGE,
    PREEMPTIONS,
    REQUESTS,
    RUNNING,
    TOKENS,
    WAITING,
    Floats,
    PodSamples,
    Samples,
)
from trimtab.model.slo import Latency
from trimtab.observe import queries
from trimtab.observe.engines.spec import CounterRole, Engine, GaugeRole, HistogramRole
from trimtab.observe.prometheus import Series
from trimtab.observe.promql import NAMESPACE, POD

PodKey = tuple[str, str]  # namespace, name
_GAUGES = {RUNNING: GaugeRole.RUNNING, WAITING: GaugeRole.WAITING, KV_USAGE: GaugeRole.KV_USAGE}


@dataclass(slots=True)
class PodRanges:
    """What the answers hold about one pod: values by instant."""

    values: dict[str, dict[float, float]] = field(default_factory=dict)
    buckets: dict[str, dict[float, dict[float, float]]] = field(default_factory=dict)  # role, bound

    def uses_speculation(self) -> bool:
        """Whether drafts were ever made."""
        return any(value > 0 for value in self.values.get(CounterRole.SPECULATIVE_STEPS, {}).values())


def by_pod(answers: Iterable[Series]) -> dict[PodKey, PodRanges]:
    """All series, by the pod they are about."""
    found: dict[PodKey, PodRanges] = {}
    for series in answers:
        labels = series.labels
        pod = found.setdefault((labels.get(NAMESPACE, ""), labels.get(POD, "")), PodRanges())
        role, points = labels.get(queries.READING, ""), dict(series.points)
        if queries.BUCKET in labels:
            bound = _bound(labels[queries.BUCKET])
            if not math.isnan(bound):
                pod.buckets.setdefault(role, {})[bound] = points
        else:
            pod.values[role] = points
    return found


def samples_of(
    name: str, ranges: PodRanges, engine: Engine, *, speculative: bool, stale_after: float
) -> tuple[PodSamples, float]:
    """The pod's samples (not marked as canary), and the seconds that lie between its scrapes; 0 when unknown.

    `speculative` takes the time per output token in the place of the step time, for all pods of a deployment alike.
    """
    sampled = {
        at: taken for at, taken in ranges.values.get(queries.SAMPLED_AT, {}).items() if at - taken <= stale_after
    }
    steps = sorted(sampled)
    roles = {
        Latency.TTFT: HistogramRole.TTFT,
        Latency.ITL: HistogramRole.TPOT if speculative else HistogramRole.ITL,
        Latency.E2E: HistogramRole.E2E,
    }
    histograms = {latency: _histogram(ranges, role, steps) for latency, role in roles.items()}
    gauges = {metric: _gauge(ranges.values.get(role, {}), steps) for metric, role in _GAUGES.items()}
    pod = PodSamples(
        name=name,
        canary=False,
        histograms={latency: found for latency, found in histograms.items() if found is not None},
        counters=_counters(ranges.values, engine, steps),
        gauges={metric: found for metric, found in gauges.items() if found is not None},
        scraped=np.array(
            [at for place, at in enumerate(steps) if not place or sampled[at] > sampled[steps[place - 1]]]
        ),
    )
    return pod, _between_scrapes(sorted(set(sampled.values())))


def _histogram(ranges: PodRanges, role: HistogramRole, steps: list[float]) -> Samples | None:
    buckets, totals = ranges.buckets.get(role, {}), ranges.values.get(role, {})
    bounds = tuple(sorted(buckets))
    if not bounds or bounds[-1] != math.inf:
        return None
    counted = buckets[math.inf]
    there = [at for at in steps if at in counted]
    columns = [_column(buckets[bound], there, math.nan) for bound in bounds]
    # Buckets that are scraped in the middle of an update may fall by a hair from one bound to the next: never here.
    rising = np.maximum.accumulate(np.stack(columns, axis=1), axis=1)
    return Samples(np.array(there), np.column_stack((rising, _column(totals, there, math.nan))), bounds)


def _counters(values: Mapping[str, Mapping[float, float]], engine: Engine, steps: list[float]) -> dict[str, Samples]:
    """Requests and errors as `assemble.PodReader` has them: the engine's and the HTTP server's counts of errors
    overlap, so the larger one is taken, and what only the HTTP server saw is added to the requests.
    """

    def of(role: CounterRole) -> Floats:
        return _column(values.get(role, {}), steps, 0.0)

    times, found = np.array(steps), {}
    if CounterRole.FINISHED in values or (engine.lazy and CounterRole.FINISHED in engine.counters):
        inside = of(CounterRole.FAILED) + of(CounterRole.REFUSED)
        errors = np.maximum(inside, of(CounterRole.SERVER_ERRORS))
        requests = of(CounterRole.FINISHED) + of(CounterRole.REFUSED) + (errors - inside)
        found = {REQUESTS: requests, ERRORS: errors}
    for metric, role in ((PREEMPTIONS, CounterRole.PREEMPTIONS), (TOKENS, CounterRole.OUTPUT_TOKENS)):
        if role in values:
            found[metric] = of(role)
    return {metric: Samples(times, column[:, None]) for metric, column in found.items()}


def _gauge(points: Mapping[float, float], steps: list[float]) -> Samples | None:
    there = [at for at in steps if at in points]
    return Samples(np.array(there), _column(points, there, math.nan)[:, None]) if there else None


def _column(points: Mapping[float, float], steps: list[float], missing: float) -> Floats:
    return np.array([points.get(at, missing) for at in steps], dtype=np.float64)


def _between_scrapes(taken: list[float]) -> float:
    return float(np.median(np.diff(taken))) if len(taken) > 1 else 0.0


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

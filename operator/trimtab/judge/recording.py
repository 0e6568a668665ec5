"""Recordings of a canary: one JSON object per line, what one scrape saw of one metric of one pod.

    {"t": 15.0, "role": "stable", "pod": "s-0", "metric": "ttft_seconds", "buckets": {"0.1": 12, "+Inf": 40},
     "sum": 7.1, "count": 40}
    {"t": 15.0, "role": "canary", "pod": "c-0", "metric": "requests_total", "value": 40}

Sorted by time; values cumulative since the pod's start, as Prometheus sees them. Metrics of other names are kept by
name only: a renamed metric is missing, not wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from trimtab.judge.history import COUNTERS, GAUGES, History
from trimtab.judge.samples import PodSamples, Samples, history_of
from trimtab.model.slo import Latency

HISTOGRAMS = {f"{latency.value}_seconds": latency for latency in Latency}
QUEUE = "queue_seconds"  # part of the TTFT: known, and judged as such
_ROLES = ("stable", "canary")
_LATE = 0.05  # of an interval: the last scrape of an interval may come a moment early


class BadRecordingError(ValueError):
    """A line that is no sample; the message names the line and the field."""


@dataclass
class _Pod:
    canary: bool
    times: dict[str, list[float]] = field(default_factory=dict)
    values: dict[str, list[list[float]]] = field(default_factory=dict)
    bounds: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recording:
    """All samples of one file. `began`: the canary's first sample; `ended`: the last sample of all, seconds."""

    pods: tuple[PodSamples, ...]
    began: float
    ended: float
    unknown_names: tuple[str, ...]

    def history(self, interval: float, deadline: float) -> History:
        """The whole intervals from the canary's first sample up to the end or the deadline (seconds), whichever is
        sooner.
        """
        seconds = min(self.ended - self.began, deadline)
        looks = max(0, math.floor(seconds / interval + _LATE))
        return history_of(self.pods, interval=interval, began=self.began, looks=looks, unknown_names=self.unknown_names)


def parse(lines: Iterable[str]) -> Recording:
    """Raises BadRecordingError for the first line that cannot be a sample, or where there is no canary's."""
    pods: dict[str, _Pod] = {}
    unknown: set[str] = set()
    last, began = -math.inf, math.inf
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        sample = _object(number, line)
        time = _number(number, sample, "t")
        if not math.isfinite(time):
            raise _wrong(number, "t", "is no finite number")
        if time < last:
            raise _wrong(number, "t", f"goes back from {last:g} to {time:g}: the lines must be sorted by time")
        last = time
        role, name, metric = (_text(number, sample, key) for key in ("role", "pod", "metric"))
        if role not in _ROLES:
            raise _wrong(number, "role", f"is {role!r}; it must be stable or canary")
        pod = pods.setdefault(name, _Pod(canary=role == "canary"))
        if pod.canary != (role == "canary"):
            raise _wrong(number, "role", f"of pod {name!r} changes to {role}")
        if pod.canary:
            began = min(began, time)
        if metric in HISTOGRAMS:
            _histogram(number, sample, pod, metric, time)
        elif metric in COUNTERS or metric in GAUGES:
            _append(number, pod, metric, time, [_number(number, sample, "value")])
        elif metric != QUEUE:
            unknown.add(metric)
    if not pods:
        raise BadRecordingError("the recording has no samples")
    if not math.isfinite(began):
        raise BadRecordingError("no line has the role canary")
    return Recording(
        tuple(_samples(name, pod) for name, pod in sorted(pods.items())), began, last, tuple(sorted(unknown))
    )


def _histogram(number: int, sample: Mapping[str, Any], pod: _Pod, metric: str, time: float) -> None:
    buckets = sample.get("buckets")
    if not isinstance(buckets, dict) or not buckets:
        raise _wrong(number, "buckets", "must be an object of bounds and counts")
    try:
        counts = {_bound(key): float(value) for key, value in buckets.items()}
    except (TypeError, ValueError):
        raise _wrong(number, "buckets", "has a bound or a count that is no number") from None
    if any(math.isnan(bound) for bound in counts):
        raise _wrong(number, "buckets", "has a bound that is no number")
    if len(counts) != len(buckets):
        raise _wrong(number, "buckets", "has the same bound twice")
    counts.setdefault(math.inf, _number(number, sample, "count"))
    bounds = tuple(sorted(counts))
    values = [counts[bound] for bound in bounds]
    if any(value < 0 for value in values):
        raise _wrong(number, "buckets", "has a negative count")
    if any(later < earlier for earlier, later in pairwise(values)):
        raise _wrong(number, "buckets", "must not fall from one bound to the next: counts are cumulative")
    if pod.bounds.setdefault(metric, bounds) != bounds:
        raise _wrong(number, "buckets", f"of {metric} has other bounds than before")
    _append(number, pod, metric, time, [*values, _number(number, sample, "sum")])


def _append(number: int, pod: _Pod, metric: str, time: float, values: list[float]) -> None:
    if any(value < 0 for value in values):
        raise _wrong(number, "value" if len(values) == 1 else "sum", "must not be negative")
    pod.times.setdefault(metric, []).append(time)
    pod.values.setdefault(metric, []).append(values)


def _samples(name: str, pod: _Pod) -> PodSamples:
    found = {
        metric: Samples(np.array(pod.times[metric]), np.array(values, dtype=np.float64), pod.bounds.get(metric, ()))
        for metric, values in pod.values.items()
    }
    return PodSamples(
        name=name,
        canary=pod.canary,
        histograms={latency: found[metric] for metric, latency in HISTOGRAMS.items() if metric in found},
        counters={metric: found[metric] for metric in COUNTERS if metric in found},
        gauges={metric: found[metric] for metric in GAUGES if metric in found},
    )


def _object(number: int, line: str) -> Mapping[str, Any]:
    try:
        sample = json.loads(line)
    except ValueError as error:
        raise BadRecordingError(f"line {number} is no JSON: {error}") from None
    except RecursionError:
        raise BadRecordingError(f"line {number} is nested too deeply") from None
    if not isinstance(sample, dict):
        raise BadRecordingError(f"line {number} is no JSON object")
    return sample


def _number(number: int, sample: Mapping[str, Any], key: str) -> float:
    """NaN and infinities pass: so a scrape says that nothing was measured."""
    if key not in sample:
        raise _wrong(number, key, "is missing")
    value = sample[key]
    if isinstance(value, str) and value in ("NaN", "+Inf", "-Inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(number, key, "must be a number")
    try:
        return float(value)
    except OverflowError:
        raise _wrong(number, key, "is too large") from None


def _text(number: int, sample: Mapping[str, Any], key: str) -> str:
    value = sample.get(key)
    if not isinstance(value, str) or not value:
        raise _wrong(number, key, "is missing" if key not in sample else "must be a text")
    return value


def _bound(text: str) -> float:
    return math.inf if text in ("+Inf", "Inf", "inf") else float(text)


def _wrong(number: int, key: str, what: str) -> BadRecordingError:
    return BadRecordingError(f"line {number}: field {key!r} {what}")

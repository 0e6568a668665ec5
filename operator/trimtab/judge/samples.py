"""From cumulative samples, as Prometheus sees them, to what was added in each interval.

A process that restarts begins its counters anew: a value below the one before is a reset, and what is counted from
there on is added to what was counted until then, as Prometheus' `increase` does (without its extrapolation, which would
make fractions of requests). A histogram is reset as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.judge.history import Flags, Floats, HistogramSeries, History
from trimtab.model.samples import PodSamples, Samples
from trimtab.model.slo import Latency

__all__ = ["PodSamples", "Samples", "history_of"]


@dataclass(frozen=True, slots=True)
class _Increase:
    added: Floats  # (K, C)
    resets: Floats  # (K)
    invalid: Flags  # (K)


def history_of(
    pods: Sequence[PodSamples],
    *,
    interval: float,
    began: float,
    looks: int,
    unknown_names: tuple[str, ...] = (),
) -> History:
    """The increases over `looks` intervals that begin at `began`. Raises ValueError for an interval that is no time.

    A pod without a fresh sample at both ends of an interval is unknown in it. A counter or histogram that appears later
    than its pod was at zero until then: clients create them with their first observation.
    """
    if not interval > 0:
        raise ValueError("an interval must be longer than nothing")
    pods = [_from_the_start(pod) for pod in pods]
    ends = began + interval * np.arange(looks + 1, dtype=np.float64)
    shape = (looks, len(pods))
    resets, invalid, unseen = np.zeros(shape), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for column, pod in enumerate(pods):
        if pod.scraped is not None:
            unseen[:, column] = np.diff(_until(pod.scraped, ends)) == 0
    histograms: dict[Latency, HistogramSeries] = {}
    for latency in Latency:
        if any(latency in pod.histograms for pod in pods):
            bounds = _shared_bounds([pod.histograms[latency] for pod in pods if latency in pod.histograms])
            added = np.full((*shape, len(bounds) + 1), np.nan)
            for column, pod in enumerate(pods):
                if latency in pod.histograms:
                    found = _increase(_narrowed(pod.histograms[latency], bounds), ends)
                    added[:, column] = found.added
                    resets[:, column] = np.maximum(resets[:, column], found.resets)
                    invalid[:, column] |= found.invalid
            histograms[latency] = HistogramSeries(np.array(bounds), added[:, :, :-1], added[:, :, -1])
    counters: dict[str, Floats] = {}
    for name in sorted({name for pod in pods for name in pod.counters}):
        counters[name] = np.full(shape, np.nan)
        for column, pod in enumerate(pods):
            if name in pod.counters:
                found = _increase(pod.counters[name], ends)
                counters[name][:, column] = found.added[:, 0]
                resets[:, column] = np.maximum(resets[:, column], found.resets)
                invalid[:, column] |= found.invalid
    gauges: dict[str, Floats] = {}
    for name in sorted({name for pod in pods for name in pod.gauges}):
        gauges[name] = np.full(shape, np.nan)
        for column, pod in enumerate(pods):
            if name in pod.gauges:
                gauges[name][:, column] = _at(pod.gauges[name], ends)
    return History(
        interval=interval,
        pods=tuple(pod.name for pod in pods),
        canary=np.array([pod.canary for pod in pods], dtype=bool),
        histograms=histograms,
        counters=counters,
        gauges=gauges,
        resets=resets,
        invalid=invalid,
        unseen=unseen,
        began=began,
        unknown_names=unknown_names,
    )


def _from_the_start(pod: PodSamples) -> PodSamples:
    series = (*pod.histograms.values(), *pod.counters.values(), *pod.gauges.values())
    scrapes = max((one.times for one in series), key=len, default=np.empty(0))

    def whole(samples: Samples) -> Samples:
        before = scrapes[scrapes < samples.times[0]] if samples.times.size else np.empty(0)
        if not before.size:
            return samples
        zeros = np.zeros((before.size, samples.values.shape[1]))
        times, values = np.concatenate((before, samples.times)), np.concatenate((zeros, samples.values))
        return Samples(times, values, samples.bounds)

    return replace(
        pod,
        histograms={name: whole(one) for name, one in pod.histograms.items()},
        counters={name: whole(one) for name, one in pod.counters.items()},
    )


def _until(times: Floats, ends: Floats) -> NDArray[np.intp]:
    """How many of the times have come at each boundary."""
    return np.searchsorted(times, ends + 1e-6, side="right")


def _newest(times: Floats, ends: Floats) -> tuple[NDArray[np.intp], Flags]:
    """Per boundary the newest sample at or before it, and whether it is younger than an interval."""
    place = _until(times, ends) - 1
    fresh = place >= 0
    if times.size:
        fresh &= times[np.maximum(place, 0)] > ends - (ends[1] - ends[0]) + 1e-6 if ends.size > 1 else fresh
    return place, fresh


def _increase(samples: Samples, ends: Floats) -> _Increase:
    times, values = samples.times, samples.values
    numbers = np.isfinite(values).all(axis=1)
    broken = times[~numbers]
    if broken.size:
        times, values = times[numbers], values[numbers]
    looks = len(ends) - 1
    invalid = np.histogram(broken, ends)[0] > 0 if broken.size else np.zeros(looks, dtype=bool)
    if not times.size:
        return _Increase(np.full((looks, values.shape[1]), np.nan), np.zeros(looks), invalid)
    counts = values[:, :-1] if samples.bounds else values
    fell = (counts[1:] < counts[:-1]).any(axis=1)
    resets = np.zeros(looks)
    if fell.any():
        lost = np.zeros_like(values)
        lost[1:][fell] = values[:-1][fell]
        values = values + np.cumsum(lost, axis=0)
        place = np.searchsorted(ends, times[1:][fell], side="left") - 1
        inside = (place >= 0) & (place < looks)
        np.add.at(resets, place[inside], 1)
    place, fresh = _newest(times, ends)
    at = values[np.maximum(place, 0)]
    added = at[1:] - at[:-1]
    added[~(fresh[1:] & fresh[:-1])] = np.nan
    return _Increase(added, resets, invalid)


def _at(samples: Samples, ends: Floats) -> Floats:
    """The last value in each interval (K); NaN when there is none or it is no number."""
    if not samples.times.size:
        return np.full(len(ends) - 1, np.nan)
    place, fresh = _newest(samples.times, ends)
    values = np.where(fresh, samples.values[np.maximum(place, 0), 0], np.nan)
    values[~np.isfinite(values)] = np.nan
    return np.asarray(values[1:], dtype=np.float64)


def _shared_bounds(series: Sequence[Samples]) -> tuple[float, ...]:
    """The bounds that all pods have: engines of two versions may cut their histograms differently."""
    shared = set(series[0].bounds)
    for one in series[1:]:
        shared &= set(one.bounds)
    return tuple(sorted(shared))


def _narrowed(samples: Samples, bounds: tuple[float, ...]) -> Samples:
    if samples.bounds == bounds:
        return samples
    columns = [samples.bounds.index(bound) for bound in bounds]
    return Samples(samples.times, samples.values[:, [*columns, samples.values.shape[1] - 1]], bounds)

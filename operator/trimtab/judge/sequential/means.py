"""One latency's mean, canary against stable, interval by interval.

The mean per interval, `sum / count`, sees a shift inside a bucket, which the buckets do not: a 15 ms ITL sits within
one. Its noise comes from intervals and pods, never from the number of tokens: the tokens of a request stand and fall
together, and the requests of an interval share its queue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.judge.history import Flags, Floats, HistogramSeries, History
from trimtab.model.slo import Latency

# Variance of one request's ln(latency), and of an interval's beyond its requests: starting values that the dispersion
# scales. A request's ITL is a mean over its tokens already.
_REQUEST_VARIANCE = {Latency.ITL: 0.03, Latency.TTFT: 0.30, Latency.E2E: 0.30}
_INTERVAL_VARIANCE = 0.015**2
_PRIOR_WEIGHT = 10.0  # degrees of freedom for a dispersion of 1
_MEDIAN_OF_NORMAL = 0.6745  # of the size of a standard normal variable
_TORN = 6.0  # times the usual variance between stable pods: by chance in 0.04 % of intervals with four of them
_QUIET, _QUIET_OF_FOUR = 0.35, 0.55  # a lower quantile of mean squares with three degrees of freedom
_FEWEST_TO_COMPARE = 5  # intervals, before one can be called unusual
_OUTLYING = 3.5  # standard errors: a node event, not noise that lasts
_CENTRE = 1.2  # variance of the middle half's mean against that of the plain mean, normal pods
_FEWEST_LEFT = 1  # intervals that an estimate without the worst run rests on
NODE_EVENT = 5  # intervals: a minute, and where it begins and ends inside of one


@dataclass(frozen=True, slots=True)
class Means:
    """`difference` (k): ln(canary) - ln(centre of stable) in each usable interval, `weight` (k) its inverse variance
    before `dispersion`. `effects` (S): stable pods' persistent differences; `effect_noise` their variance by noise.
    `centre` (K): ln of stable's, NaN where unknown. `place` (k): which of the K intervals are usable.
    """

    difference: Floats
    weight: Floats
    dispersion: float
    effects: Floats
    effect_noise: float
    centre: Floats
    place: NDArray[np.intp]

    @property
    def looks(self) -> int:
        return int(self.difference.size)

    def estimate(self) -> tuple[float, float]:
        """The weighted mean difference and its information, the inverse of its variance."""
        total = float(self.weight.sum())
        if not total > 0:
            return 0.0, 0.0
        return float(self.weight @ self.difference) / total, total / self.dispersion

    def without_run(self, sign: float) -> tuple[float, float]:
        """The same without the run of intervals that speaks most for (`sign` 1) or against (-1) the canary being
        slower: a node that slows its pods for a minute is no property of a configuration.
        """
        begins = np.arange(self.place[0] - NODE_EVENT + 1, self.place[-1] + 1)
        first = np.searchsorted(self.place, begins)
        after = np.searchsorted(self.place, begins + NODE_EVENT)
        pull = np.cumsum(np.concatenate(([0.0], self.weight * self.difference)))
        mass = np.cumsum(np.concatenate(([0.0], self.weight)))
        left = self.looks - (after - first) >= _FEWEST_LEFT
        if not left.any():
            return 0.0, 0.0
        left_mass = mass[-1] - (mass[after] - mass[first])[left]
        means = (pull[-1] - (pull[after] - pull[first])[left]) / left_mass
        worst = int(np.argmin(sign * means))
        return float(means[worst]), float(left_mass[worst]) / self.dispersion

    def last(self, intervals: int) -> tuple[float, float, float]:
        """Over the newest intervals: mean difference, its variance, and the smallest of the differences."""
        w, d = self.weight[-intervals:], self.difference[-intervals:]
        return float(w @ d / w.sum()), self.dispersion / float(w.sum()), float(d.min())


def settled(history: History, warm_up: float) -> Flags:
    """(K, P): not within the canary's warm-up, nor the interval of a restart and what a pod needs to warm up after."""
    skipped = max(0, math.ceil(warm_up / history.interval - 1e-9))
    good = np.ones(history.resets.shape, dtype=bool)
    counts = history.at_work()
    for column in range(len(history.pods)):
        begins = [int(place) for place in np.flatnonzero(history.resets[:, column] > 0)]
        good[begins, column] = False
        begins = [place + 1 for place in begins]
        if history.canary[column]:
            served = np.flatnonzero(counts[:, column] > 0)
            first = int(served[0]) if served.size else history.looks
            good[:first, column] = False
            begins.append(first)
        for place in begins:
            good[place : place + skipped, column] = False
    return good


def means_of(history: History, latency: Latency, good: Flags) -> Means | None:
    """None when canary and stable share no interval in which both can be read."""
    series = history.histograms.get(latency)
    if series is None or not history.canary.any() or not history.stable.any():
        return None
    logs, noise = _logs(history, latency, series, good)
    canary, stable = history.canary, history.stable
    ours, ours_noise = _plain(logs[:, canary], noise[:, canary])
    centre, centre_noise = _middle(logs[:, stable], noise[:, stable])
    both = np.isfinite(ours) & np.isfinite(centre)
    if not both.any():
        return None
    effects, residuals = _effects(logs[:, stable], centre)
    difference, weight = (ours - centre)[both], 1 / (ours_noise + centre_noise)[both]
    dispersion = _dispersion(residuals, noise[:, stable], difference, weight)
    seen = np.isfinite(residuals)
    # The median over time is less efficient than the mean by pi / 2.
    pod_noise = float(np.nanmean(noise[:, stable]) / max(1.0, seen.sum(axis=0).mean())) * dispersion * math.pi / 2
    return Means(difference, weight, dispersion, effects, pod_noise, centre, np.flatnonzero(both))


def _logs(history: History, latency: Latency, series: HistogramSeries, good: Flags) -> tuple[Floats, Floats]:
    """(K, P): ln of each pod's mean, and the variance that its requests give it; NaN where unknown."""
    observed = series.count
    requests = history.observed(latency)
    with np.errstate(all="ignore"):
        mean = series.total / observed
        known = good & (observed > 0) & (requests > 0) & np.isfinite(mean) & (mean > 0)
        variance = _REQUEST_VARIANCE[latency] / requests
        logs = np.where(known, np.log(mean) + variance / 2, np.nan)
        noise = np.where(known, variance + _INTERVAL_VARIANCE, np.nan)
    return logs, noise


def _plain(logs: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """Mean over the pods that are known, and the variance of its noise; NaN where none is."""
    seen = np.isfinite(logs)
    count = seen.sum(axis=1)
    with np.errstate(all="ignore"):
        mean = np.where(seen, logs, 0.0).sum(axis=1) / count
        return mean, np.where(seen, noise, 0.0).sum(axis=1) / count**2


def _middle(logs: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """The mean of the middle half from four pods on, so that one pod on a slow node is not the yardstick."""
    seen = np.isfinite(logs)
    count = seen.sum(axis=1)
    cut = np.where(count >= 4, count // 4, 0)
    place = np.arange(logs.shape[1])[None, :]
    kept = (place >= cut[:, None]) & (place < (count - cut)[:, None])
    ordered = np.sort(logs, axis=1)
    with np.errstate(all="ignore"):
        middle = np.where(kept, ordered, 0.0).sum(axis=1) / kept.sum(axis=1)
        variance = np.where(seen, noise, 0.0).sum(axis=1) / count**2
    return middle, variance * np.where(cut > 0, _CENTRE, 1.0)


def torn(history: History, latency: Latency, good: Flags) -> Flags:
    """Intervals (K) in which stable pods disagree far more than they usually do: some are on a slow node.

    Nothing of the canary is looked at, so leaving them out favours nobody. At most half of the intervals go.
    """
    series, stable = history.histograms.get(latency), history.stable
    if series is None or not stable.any():
        return np.zeros(history.looks, dtype=bool)
    logs, noise = (values[:, stable] for values in _logs(history, latency, series, good))
    _, residuals = _effects(logs, _middle(logs, noise)[0])
    pods = np.isfinite(residuals).sum(axis=1)
    if residuals.shape[0] < _FEWEST_TO_COMPARE or not (pods > 1).any():
        return np.zeros(residuals.shape[0], dtype=bool)
    with np.errstate(all="ignore"):
        around = residuals - (np.where(np.isfinite(residuals), residuals, 0.0).sum(axis=1) / pods)[:, None]
        squares = np.where(np.isfinite(residuals), around**2 / noise, 0.0).sum(axis=1) / (pods - 1)
    squares = np.where(pods > 1, squares, 0.0)
    known = np.sort(squares[pods > 1])
    usual = float(known[int(_QUIET * known.size)]) / _QUIET_OF_FOUR
    usual = (usual * known.size + _PRIOR_WEIGHT / 2) / (known.size + _PRIOR_WEIGHT / 2)
    return np.asarray(squares > max(_TORN * usual, float(known[known.size // 2])))


def _effects(logs: Floats, centre: Floats) -> tuple[Floats, Floats]:
    """Each stable pod's median difference from the centre (pods seen at all), and what is left of each interval."""
    residuals = logs - centre[:, None]
    present = np.isfinite(residuals).any(axis=0)
    effects = np.full(logs.shape[1], np.nan)
    if present.any():
        effects[present] = _medians(residuals[:, present])
    return effects[present], residuals - effects[None, :]


def _medians(values: Floats) -> Floats:
    """Of each column, without its NaN, of which there are not only such."""
    ordered = np.sort(values, axis=0)
    count = np.isfinite(values).sum(axis=0)
    column = np.arange(values.shape[1])
    return np.asarray((ordered[(count - 1) // 2, column] + ordered[count // 2, column]) / 2)


def _dispersion(residuals: Floats, noise: Floats, difference: Floats, weight: Floats) -> float:
    """How much more intervals vary than their requests explain, with what neighbours share.

    From the stable pods' residuals and the canary's first differences, by the median of their size, so that a node
    event, which takes nearly half of ten intervals, is not taken for noise; towards 1 by a prior.
    """
    pods = residuals.shape[1]
    if pods < 2:
        sizes, z = np.empty(0), np.empty((0, 0))
    else:
        # Each pod's median takes one of its intervals.
        looks = residuals.shape[0]
        z = residuals / np.sqrt(noise * (1 - 1 / pods) * max(1, looks - 1) / looks)
        sizes = np.abs(z[np.isfinite(z)])
    if difference.size > 1:
        steps = np.abs(np.diff(difference)) / np.sqrt(1 / weight[1:] + 1 / weight[:-1])
        sizes = np.concatenate((sizes, steps))
    if not sizes.size:
        return 1.0
    usual = float(np.sort(sizes)[sizes.size // 2]) / _MEDIAN_OF_NORMAL
    variance = (usual**2 * sizes.size + _PRIOR_WEIGHT) / (sizes.size + _PRIOR_WEIGHT)
    scaled = np.nan_to_num(z) / max(usual, 1e-9)
    scaled[np.abs(scaled) > _OUTLYING] = 0.0
    neighbours, base = float((scaled[1:] * scaled[:-1]).sum()), float((scaled**2).sum()) + _PRIOR_WEIGHT
    correlation = min(max(neighbours / base, 0.0), 0.8)
    return max(0.5, variance) * (1 + correlation) / (1 - correlation)

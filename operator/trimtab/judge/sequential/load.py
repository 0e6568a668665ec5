"""How the canary's load compares with stable's, and how much of a difference in latency the load explains.

The router's configured share is the best witness. Where there is none the counts of finished requests tell, with their
own noise: taken at face value they called a healthy canary under 1.25 times the load worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trimtab.judge.history import RUNNING, WAITING, Floats, History
from trimtab.model.slo import Latency

_PRIOR_SPREAD = 0.25  # of the logarithm of the ratio: routers spread unevenly, seldom by more than this
_PRIOR_DISPERSION, _PRIOR_WEIGHT = 1.5, 10.0  # of counts against Poisson's variance, and in how many degrees of freedom
# d ln(latency) / d ln(load) before the stable pods have shown theirs. A wait in a queue grows faster than a step.
_ELASTICITY = {Latency.ITL: 0.4, Latency.TTFT: 0.8, Latency.E2E: 0.5}
_ELASTICITY_WEIGHT = 0.3  # squared logarithms: as much as load that doubles and halves shows in three intervals
_LEAST_REAL = 0.3  # of the variance of counts over time is load, not chance
_STEEPEST = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """ln(canary / stable) of requests per pod: what is believed, its standard error, and the plain ratio seen."""

    logarithm: float
    error: float
    ratio: float

    @property
    def heavier(self) -> float:
        """The believed logarithm where the canary carries more; else 0."""
        return max(0.0, self.logarithm)

    @property
    def lighter(self) -> float:
        return max(0.0, -self.logarithm)


def load_of(history: History, share: float | None) -> Load:
    canary, stable = history.canary, history.stable
    counts = history.requests()
    if share is not None and 0 < share < 1 and canary.any() and stable.any():
        ratio = share / int(canary.sum()) / ((1 - share) / int(stable.sum()))
        return Load(math.log(ratio), 0.0, ratio)
    arrived = counts + _still_here(history)
    both = np.isfinite(arrived[:, canary]).all(axis=1) & np.isfinite(arrived[:, stable]).all(axis=1)
    if not both.any() or not canary.any() or not stable.any():
        return Load(0.0, _PRIOR_SPREAD, 1.0)
    arrived = np.maximum(arrived[both], 0.0)
    ours, theirs = float(arrived[:, canary].sum()), float(arrived[:, stable].sum())
    if ours <= 0 or theirs <= 0:
        return Load(0.0, _PRIOR_SPREAD, 1.0)
    seen = math.log((ours / int(canary.sum())) / (theirs / int(stable.sum())))
    error2 = _dispersion(arrived[:, stable]) * (1 / ours + 1 / theirs)
    trust = _PRIOR_SPREAD**2 / (_PRIOR_SPREAD**2 + error2)
    return Load(trust * seen, math.sqrt(trust * error2), math.exp(seen))


def elasticity(history: History, latency: Latency, centre: Floats) -> float:
    """d ln(latency) / d ln(load) as the stable pods show it over time; `centre` (K): their ln(latency)."""
    load = history.requests()[:, history.stable].sum(axis=1)
    good = np.isfinite(centre) & np.isfinite(load) & (load > 0)
    prior, weight = _ELASTICITY[latency], _ELASTICITY_WEIGHT
    if good.sum() < 3:
        return prior
    x, y = np.log(load[good]), centre[good]
    x, y = x - x.mean(), y - y.mean()
    # Counts vary by chance as well, which flattens the slope (Fuller, Measurement Error Models, 1987).
    seen = float(x @ x)
    real = max(seen - float((_PRIOR_DISPERSION / load[good]).sum()), _LEAST_REAL * seen)
    slope = (float(x @ y) + prior * weight) / (real + weight)
    return min(max(slope, 0.0), _STEEPEST)


def _still_here(history: History) -> Floats:
    """What came in and has not ended: the change of what runs and waits, (K, P); 0 where no gauge tells."""
    here = np.zeros(history.resets.shape)
    for name in (RUNNING, WAITING):
        if name in history.gauges:
            change = np.diff(history.gauges[name], axis=0, prepend=np.nan)
            here += np.where(np.isfinite(change), change, 0.0)
    return here


def _dispersion(counts: Floats) -> float:
    """Variance of the pods' counts over Poisson's, within intervals: what all share is no noise of the ratio."""
    pods = int(counts.shape[1])
    if pods < 2:
        return _PRIOR_DISPERSION
    mean = counts.mean(axis=1, keepdims=True)
    busy = mean[:, 0] > 0
    if not busy.any():
        return _PRIOR_DISPERSION
    squares = float(((counts[busy] - mean[busy]) ** 2 / mean[busy]).sum())
    freedom = (pods - 1) * int(busy.sum())
    return max(1.0, (squares + _PRIOR_WEIGHT * _PRIOR_DISPERSION) / (freedom + _PRIOR_WEIGHT))

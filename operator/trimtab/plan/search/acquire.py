"""How promising a candidate is: expected improvement within the limits, and how sure it is that they are kept.

Expected improvement: Jones, Schonlau and Welch, Efficient Global Optimization, 1998. Only candidates that are safe are
looked at, because a canary serves real requests; so does safe Bayesian optimization (Sui et al., Safe Exploration for
Optimization with Gaussian Processes, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trimtab.plan.search.candidates import SAFE, Bools, Candidates, Estimate, Floats, Goal, Limit

_SQRT2 = math.sqrt(2.0)


def normal_cdf(z: Floats) -> Floats:
    """The distribution function of the standard normal.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: within 2e-7 of the exact value.
    """
    x = np.abs(z) / _SQRT2
    t = 1.0 / (1.0 + 0.3275911 * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = 1.0 - series * np.exp(-x * x)
    return np.asarray(np.where(z >= 0, 0.5 * (1.0 + erf), 0.5 * (1.0 - erf)))


def student_cdf(t: Floats, freedom: float) -> Floats:
    """The distribution function of Student's t; infinite `freedom` is the normal distribution.

    Wallace's approximation (Bounds on normal approximations to Student's and the chi-square distributions, 1959).
    """
    if math.isinf(freedom):
        return normal_cdf(t)
    shrink = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0)
    return normal_cdf(np.sign(t) * shrink * np.sqrt(freedom * np.log1p(t * t / freedom)))


def probability_kept(candidates: Candidates, limits: Sequence[Limit]) -> Floats:
    """The least probability that a candidate keeps all limits, however errors of different metrics hang together."""
    kept = np.ones(candidates.count)
    for limit in limits:
        estimate = candidates.metrics[limit.metric]
        distance = math.log(limit.value) - estimate.mean
        certain = np.where(distance >= 0, np.inf, -np.inf)
        z = np.divide(distance, estimate.sd, out=certain, where=estimate.sd > 0)
        kept = kept - (1.0 - student_cdf(np.clip(z, -40.0, 40.0), estimate.freedom))
    return np.maximum(kept, 0.0)


def safe(candidates: Candidates, goal: Goal, confidence: float = SAFE) -> Bools:
    """Which candidates keep all limits with `confidence`."""
    return np.asarray(probability_kept(candidates, goal.limits) >= confidence)


def expected_improvement(score: Estimate, best: float) -> Floats:
    """By how much a candidate's score is expected to pass `best`, in natural logarithms (0.01: one per cent)."""
    gain = score.mean - best
    z = np.divide(gain, score.sd, out=np.zeros_like(gain), where=score.sd > 0)
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    sure = np.maximum(gain, 0.0)
    return np.asarray(np.where(score.sd > 0, gain * normal_cdf(z) + score.sd * density, sure))

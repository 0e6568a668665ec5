"""Bounds that hold however often one looks."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

import numpy as np

from trimtab.judge.history import Floats

# The information at which the mixture's bound is tightest: about eight intervals of 30 requests, or two of 300.
MIXTURE_INFORMATION = 4000.0
# The same for a canary with few requests that is far better: five intervals of 5 at twice the usual dispersion.
LITTLE_INFORMATION = 40.0
_LITTLE_ALPHA = 0.2  # of alpha, for that bound


def half_width(information: float, alpha: float, tightest: float = MIXTURE_INFORMATION) -> float:
    """One-sided half width of a mean's confidence sequence, after `information` (the sum of inverse variances).

    The normal-mixture boundary (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric,
    nonasymptotic confidence sequences", Annals of Statistics 2021, section 3.2), with estimated variances as in
    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence
    sequences" (2024). The probability that the mean ever leaves it on this side is about `alpha`.
    """
    if not information > 0:
        return math.inf
    rho = tightest
    return math.sqrt((information + rho) * math.log((information + rho) / (rho * (2 * alpha) ** 2))) / information


def narrower_half_width(information: float, alpha: float) -> float:
    """The smaller one of two such widths, one for little information: together they err with 1.2 `alpha`."""
    usual = half_width(information, alpha)
    return min(usual, half_width(information, _LITTLE_ALPHA * alpha, LITTLE_INFORMATION))


@cache
def normal_quantile(alpha: float) -> float:
    """The point that a standard normal variable exceeds with probability `alpha`."""
    return NormalDist().inv_cdf(1 - alpha)


def normal_tail(x: Floats) -> Floats:
    """P(Z > x) for a standard normal Z, from a table in steps of 0.01: to a relative error of 4e-4 up to x = 5."""
    return np.asarray(np.interp(x, _POINTS, _TAILS))


_POINTS = np.linspace(-8.0, 8.0, 1601)
_TAILS = np.array([0.5 * math.erfc(point / math.sqrt(2)) for point in _POINTS])

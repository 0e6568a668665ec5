"""Bounds on shares of requests that depend on each other."""

from __future__ import annotations

import math

from trimtab.model.histogram import Histogram

# Requests that share a queue share its wait, so a window of n requests says less than n independent ones would. The
# variance of a count is assumed to be twice the binomial one.
OVERDISPERSION = 2.0
STANDARD_ERRORS = 3.0  # one-sided 0.13 % for each look
FEWEST = 8.0  # requests: below, nothing is called Bad by its latencies


def wilson(share: float, count: float, dispersion: float, errors: float) -> tuple[float, float]:
    """Wilson's score interval (1927) at `errors` standard errors, `count` requests worth `count / dispersion`.

    Rather than the normal interval, because it stays inside 0 to 1 and is honest for shares near 0 and 1.
    """
    n = count / dispersion
    if not n > 0:
        return 0.0, 1.0
    p, z2 = min(max(share, 0.0), 1.0), errors**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = errors * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def share_bounds(share: float, requests: float) -> tuple[float, float]:
    """Wilson's interval for a share seen among `requests`, with the dependence assumed here."""
    if math.isnan(share):
        return 0.0, 1.0
    return wilson(share, requests, OVERDISPERSION, STANDARD_ERRORS)


def relative_variance(histogram: Histogram) -> float:
    """Variance over squared mean, from the middles of the buckets; 0 without observations."""
    if histogram.count <= 0 or not histogram.mean > 0:
        return 0.0
    lower, below, first, second = 0.0, 0.0, 0.0, 0.0
    for bound, cumulative in zip(histogram.bounds, histogram.cumulative, strict=True):
        middle = 2.0 * lower if math.isinf(bound) else (lower + bound) / 2
        inside = max(0.0, cumulative - below)
        first += inside * middle
        second += inside * middle * middle
        lower, below = bound, cumulative
    mean = first / histogram.count
    return max(0.0, second / histogram.count - mean * mean) / (mean * mean) if mean > 0 else 0.0


def share_surely_above(histogram: Histogram, threshold: float) -> float:
    """The share above the first bucket bound at or beyond `threshold`: no interpolation, so never too high."""
    for bound in histogram.bounds:
        if bound >= threshold:
            return 0.0 if math.isinf(bound) else histogram.share_above(bound)
    return 0.0

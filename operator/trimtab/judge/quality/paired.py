"""Ratios over probes and their differences, with Student's intervals.

The unit is the probe: its tokens depend on each other, so their number says nothing about certainty (clustered standard
errors), and two pods are compared on the same probes, so what makes a text hard cancels (paired differences). Both as
Miller, "Adding Error Bars to Evals" (2024, arXiv:2411.00640), sections 2.2 and 4. The variance of a ratio of sums is
that of its linearisation (Cochran, "Sampling Techniques", 1977, chapter 6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what each probe added to its error; the parts add up to about 0."""

    value: float
    parts: tuple[float, ...]

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference on the same probes."""
        parts = tuple(mine - its for mine, its in zip(self.parts, other.parts, strict=True))
        return Estimate(self.value - other.value, parts)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Student's interval that holds with `confidence` on each side (0.995: 99 % two-sided)."""
        count = len(self.parts)
        if count < 2:
            return -math.inf, math.inf
        variance = count / (count - 1) * math.fsum(part * part for part in self.parts)
        half = student_quantile(confidence, count - 1) * math.sqrt(variance)
        return self.value - half, self.value + half


def ratio(values: Sequence[float], weights: Sequence[float]) -> Estimate:
    """sum(values) / sum(weights) over probes. Raises ValueError where the weights add up to nothing."""
    whole = math.fsum(weights)
    if not whole > 0:
        raise ValueError("the weights must add up to more than nothing")
    value = math.fsum(values) / whole
    return Estimate(value, tuple((v - value * w) / whole for v, w in zip(values, weights, strict=True)))


def student_quantile(confidence: float, freedom: int) -> float:
    """Quantile of Student's t by its expansion in 1/freedom (Abramowitz and Stegun, 1964, 26.7.5).

    Right to 0.1 % from 9 degrees of freedom on, at the confidence used here.
    """
    if freedom < 1:
        return math.inf
    z = NormalDist().inv_cdf(confidence)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / math.pow(freedom, power) for power, term in enumerate(terms, start=1))

"""What a search works on: estimates of every candidate, limits that a person set, and measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Ninety per cent of a normal distribution lie within this many standard deviations.
Z90: Final = 1.6448536269514722
# A candidate is called safe when it keeps every limit with this probability.
SAFE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """One metric of all candidates: `mean` of its natural logarithm, and the standard deviation `sd` of that.

    With `freedom` the logarithm has Student's t distribution of so many degrees of freedom with `sd` as its scale.
    """

    mean: Floats
    sd: Floats
    freedom: float = math.inf

    @property
    def median(self) -> Floats:
        """In the metric's own unit."""
        return np.exp(self.mean)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows are configurations. `features` (rows, knobs): numbers as binary logarithms, choices as 0 and 1, so that
    one doubling or one other choice is a distance of 1. `metrics` holds an estimate per name, all of the same length.
    """

    features: Floats
    metrics: Mapping[str, Estimate]

    @property
    def count(self) -> int:
        return int(self.features.shape[0])


@dataclass(frozen=True, slots=True)
class Limit:
    """A metric that must not be above `value`, in its own unit."""

    metric: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`objective` is the metric to make large (`maximise`) or small, while all limits are kept."""

    objective: str
    maximise: bool = True
    limits: tuple[Limit, ...] = ()
    min_improvement: float = 0.02  # share; less is not worth a canary

    def score(self, candidates: Candidates) -> Estimate:
        """The objective as something to make large."""
        found = candidates.metrics[self.objective]
        return found if self.maximise else Estimate(-found.mean, found.sd, found.freedom)

    def kept(self, measured: Mapping[str, float]) -> bool:
        """Whether a measurement keeps all limits; a metric that is not known is not kept."""
        return all(measured.get(limit.metric, np.inf) <= limit.value for limit in self.limits)


@dataclass(frozen=True, slots=True)
class Observation:
    """What was measured of the candidate in `row`, by metric in its own unit.

    `kept`: whether it keeps the limits, where that is known otherwise than from `measured`.
    """

    row: int
    measured: Mapping[str, float] = field(default_factory=dict)
    kept: bool | None = None

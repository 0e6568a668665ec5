"""The decision score: among measured configurations, is the one that the planner picks the best that meets the SLO?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.bench.planner.measured import Measured
from trimtab.plan.performance.roofline import Floats

SLOS: Final = (10.0, 15.0, 20.0, 30.0, 40.0)  # TPOT, ms
_LEAST_SIZES: Final = 3
_PROBLEM: Final = ("model", "gpu", "engine", "weight_precision", "isl", "osl")


@dataclass(frozen=True, slots=True)
class Decisions:
    """`score`: measured tokens/s/GPU of the pick over the best that meets the SLO, 0 where the pick breaks it."""

    score: float
    broken: float
    problems: int


def decide(data: Measured, upper: Floats, rate: Floats) -> Decisions:
    """Picks the highest predicted `rate` per GPU among configurations of which `upper`, ms, meets the SLO.

    Where none does, the lowest `upper`. Problems that no measured configuration meets are left out.
    """
    scores, broken = [], []
    for where in _problems(data):
        for slo in SLOS:
            meets = data.tpot[where] <= slo
            if meets.any():
                pick = where[_pick(upper[where], rate[where], slo)]
                good = bool(data.tpot[pick] <= slo)
                broken.append(not good)
                scores.append(data.rate[pick] / data.rate[where][meets].max() if good else 0.0)
    return Decisions(float(np.mean(scores)), float(np.mean(broken)), len(scores))


def _problems(data: Measured) -> Sequence[NDArray[np.intp]]:
    """Rows with the same model, GPU, engine, precision and lengths, in three or more sizes."""
    found = defaultdict(list)
    for number, row in enumerate(data.rows):
        found[tuple(row[name] for name in _PROBLEM)].append(number)
    sizes = data.batch.each("gpus")
    return [np.array(rows) for _, rows in sorted(found.items()) if len(set(sizes[rows])) >= _LEAST_SIZES]


def _pick(upper: Floats, rate: Floats, slo: float) -> int:
    safe = np.flatnonzero(upper <= slo)
    return int(safe[np.argmax(rate[safe])]) if len(safe) else int(np.argmin(upper))

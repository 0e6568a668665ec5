"""From what runs to the best configuration in single steps, biggest safe gain first.

The changes between the two are grouped (batching, KV cache, layout, ...), and every combination of groups is a row
of `Candidates`: row number = sum of 2 ** group. So a step's effect is predicted with what the steps before it have
changed, and the effect of all of them is that of the last row, never a sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trimtab.plan.search.acquire import safe
from trimtab.plan.search.candidates import Z90, Bools, Candidates, Goal, Observation
from trimtab.plan.search.residuals import jointly


@dataclass(frozen=True, slots=True)
class Ratio:
    """New over old, with the bounds of a 90 % interval."""

    value: float
    low: float
    high: float


def path(combinations_of_groups: Candidates, goal: Goal, allowed: Bools | None = None) -> tuple[int, ...]:
    """Rows from 0 to the last one, each with more groups changed than the one before.

    Of the groups that may come next, the one with the best objective is taken. Rows that are not safe, or not
    `allowed` where that is given, are passed over: then two groups or more change in one step. Raises ValueError when
    the number of rows is no power of two.
    """
    rows = combinations_of_groups.count
    if rows < 1 or rows & (rows - 1):
        raise ValueError(f"{rows} rows are not all combinations of a number of groups")
    last = rows - 1
    allowed = safe(combinations_of_groups, goal) if allowed is None else allowed.copy()
    allowed[last] = True
    score = goal.score(combinations_of_groups).mean
    here, found = 0, [0]
    while here != last:
        left = [1 << bit for bit in range(last.bit_length()) if not here >> bit & 1]
        here = _next(here, left, allowed, score)
        found.append(here)
    return tuple(found)


def _next(here: int, left: list[int], allowed: np.ndarray, score: np.ndarray) -> int:
    for size in range(1, len(left) + 1):
        reached = [here + sum(chosen) for chosen in combinations(left, size)]
        possible = [row for row in reached if allowed[row]]
        if possible:
            return max(possible, key=lambda row: (score[row], -row))
    raise AssertionError("the last row is always allowed")


def ratio(candidates: Candidates, metric: str, old: int, new: int, observations: Sequence[Observation] = ()) -> Ratio:
    """The predicted ratio of a metric between two rows, given what was measured of any.

    What errors both share cancels, so it is surer than either.
    """
    mean, both = jointly(candidates, metric, (old, new), observations)
    sd = math.sqrt(max(0.0, both[0, 0] + both[1, 1] - 2.0 * both[0, 1]))
    difference = float(mean[1] - mean[0])
    bounds = (difference, difference - Z90 * sd, difference + Z90 * sd)
    return Ratio(*(math.exp(bound) for bound in bounds))

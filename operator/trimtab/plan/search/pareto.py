"""The configurations that no other one beats in everything."""

from __future__ import annotations

import numpy as np

from trimtab.plan.search.candidates import Floats


def pareto_front(costs: Floats) -> list[int]:
    """Rows of `costs` (rows, metrics; smaller is better) that are not dominated, in order of the first metric.

    Of rows that are equal in everything the first is kept. Rows with a value that is not finite are left out.
    """
    finite = np.flatnonzero(np.isfinite(costs).all(axis=1))
    # By the first metric, then the others, then the row: whatever dominates a row stands before it.
    keys = [finite, *(costs[finite, column] for column in reversed(range(costs.shape[1])))]
    order = finite[np.lexsort(keys)]
    front: list[int] = []
    if costs.shape[1] == 2:
        lowest = np.inf
        for row in order:
            if costs[row, 1] < lowest:
                front.append(int(row))
                lowest = costs[row, 1]
        return front
    for row in order:
        if not any((costs[kept] <= costs[row]).all() for kept in front):
            front.append(int(row))
    return front

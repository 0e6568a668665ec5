"""Which configurations of a space the engine would start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from trimtab.plan.memory import DoesNotFit, MemoryModel, fit, limits_of
from trimtab.plan.memory.limits import Limits
from trimtab.plan.point import ServingPoint
from trimtab.plan.search.candidates import Bools
from trimtab.plan.search.space import Space


def starting(space: Space, knobs: Sequence[str], point_of: Callable[[int], ServingPoint]) -> Bools:
    """The memory model, once for each combination of `knobs` (layout and formats), over arrays of the batch limits.

    `point_of` gives the serving point of a row.
    """
    keys = np.column_stack([space.choices(name) for name in knobs])
    starts = np.zeros(space.count, bool)
    for key in np.unique(keys, axis=0):
        rows = np.flatnonzero((keys == key).all(axis=1))
        point = point_of(int(rows[0]))
        if isinstance(fit(point), DoesNotFit) and isinstance(fit(replace(point, max_num_seqs=1)), DoesNotFit):
            continue
        usual = limits_of(point)
        limits = Limits(
            sequences=space.numbers("maxNumSeqs")[rows],
            step_tokens=space.numbers("maxNumBatchedTokens")[rows],
            length=usual.length,
            utilization=usual.utilization,
        )
        starts[rows] = MemoryModel.of(point).starts(limits)
    return starts

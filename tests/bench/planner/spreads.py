"""How wide the errors of left-out groups are, by kind of point: what intervals are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trimtab.plan.performance.coefficients import Spread
from trimtab.plan.performance.roofline import Floats

_LOW: Final = 0.05
_HIGH: Final = 0.95
# The part of the points for which the bound that an SLO is held against is to hold.
UPPER: Final = 0.85
# A group with many rows counts by this power of them: rows of a group share their errors.
_POWER: Final = 0.5
_LEAST: Final = 30


def spreads(kinds: NDArray[np.str_], groups: NDArray[np.str_], errors: Mapping[str, Floats]) -> dict[str, Spread]:
    """`errors`: natural log of measured over predicted, of left-out rows, by metric.

    The bound for an SLO is one for all kinds: the groups of one kind are too few to tell a quantile of its own. A kind
    with few rows takes its interval from all.
    """
    weight = weights(groups)
    found = {}
    for metric, error in errors.items():
        upper = quantile(error, weight, UPPER)
        for kind in ("dense", "moe"):
            mine = kinds == kind
            keep = mine if mine.sum() >= _LEAST else np.ones(len(kinds), bool)
            found[f"{kind}/{metric}"] = spread(error[keep], weight[keep], upper)
    return found


def weights(groups: NDArray[np.str_]) -> Floats:
    """Of each row, by how many its group has."""
    counts = Counter(groups)
    return np.array([counts[group] ** -_POWER for group in groups])


def spread(error: Floats, weight: Floats, upper: float) -> Spread:
    """The prediction itself always lies inside."""
    low, high = quantile(error, weight, _LOW), quantile(error, weight, _HIGH)
    return Spread(low=min(low, 0.0), high=max(high, 0.0), upper=max(upper, 0.0))


def quantile(values: Floats, weight: Floats, level: float) -> float:
    """The smallest value below or at which `level` of the weight lies."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(int(np.searchsorted(share, level)), len(values) - 1)])

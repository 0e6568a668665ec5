"""Evidence by betting: capital that can hardly grow when nothing is wrong.

Each interval a share of the capital is staked on the canary's share (of slow requests, of errors) being higher than
what it may be. If it is not, the expected capital never grows, so by Ville's inequality it exceeds 1/alpha with
probability alpha at most, at whatever moment one stops (Ville 1939; Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS B 2024; Shafer, "Testing by betting", JRSS A 2021). No distribution is
assumed, so intervals in which requests fail or wait together need no correction: the interval is the unit.
"""

from __future__ import annotations

import numpy as np

from trimtab.judge.history import Floats

# Small stakes find a small excess that lasts, large ones a rare event against a share near zero.
STAKES = np.array([5.0, 25.0, 100.0])
_MOST = 0.9  # of what would ruin: a stake leaves at least a tenth of the capital


def capital(seen: Floats, allowed: Floats, *, spared: int = 0) -> float:
    """ln of the capital after intervals with shares `seen` (K) where `allowed` (K) were the most there may be.

    The mean over three bettors of constant stakes, a mixture as good as the best of them but for a factor of three.
    `spared`: the best run of so many intervals does not count, because something outside of the canary may explain it.
    """
    if not seen.size:
        return 0.0
    stakes = np.minimum(STAKES[:, None], _MOST / np.maximum(allowed, 1e-9))
    gains = np.log1p(stakes * (seen - allowed))
    wealth = gains.sum(axis=1)
    if spared:
        wealth = wealth - best_run(gains, spared)
    top = float(wealth.max())
    return top + float(np.log(np.exp(wealth - top).mean()))


def best_run(gains: Floats, length: int) -> Floats:
    """The largest sum of `length` neighbours along the last axis; of all, where there are no more."""
    if gains.shape[-1] <= length:
        return np.asarray(np.maximum(gains.sum(axis=-1), 0.0))
    total = np.cumsum(gains, axis=-1)
    runs = total[..., length - 1 :].copy()
    runs[..., 1:] -= total[..., :-length]
    return np.asarray(np.maximum(runs.max(axis=-1), 0.0))

"""Bounds on shares of requests that depend on each other."""

from __future__ import annotations

import math


def wilson(share: float, count: float, dispersion: float, errors: float) -> tuple[float, float]:
    """Wilson's score interval (1927) at `errors` standard errors, `count` requests worth `count / dispersion`.

    Rather than the normal interval, because it stays inside 0 to 1 and is honest for shares near 0 and 1.
    """
    n = count / dispersion
    if not n > 0:
        return 0.0, 1.0
    p, z2 = min(max(share, 0.0), 1.0), errors**2
    # Multiplied out, so that counts near nothing do not underflow.
    centre = (p * n + z2 / 2) / (n + z2)
    half = errors * math.sqrt(p * (1 - p) * n + z2 / 4) / (n + z2)
    return max(0.0, centre - half), min(1.0, centre + half)

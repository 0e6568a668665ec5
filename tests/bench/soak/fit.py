"""From a recording to what it says: slopes by a robust fit, and the rows of the table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.bench.serving.rows import Row, at_most, told

# A run of at least so many seconds is judged by the slope for an hour; a shorter one cannot tell a slope that small
# from chance, and is judged by what it keeps of each request.
LONG = 1800.0
LARGEST_SLOPE_PERCENT = 1.0
LARGEST_REMAINDER = 1000.0
MOST_NEW_FILES = 8


@dataclass(frozen=True, kw_only=True)
class Look:
    """The server at one moment: seconds since the load began, answers so far, bytes held by its processes, by their
    places in the family, and open files and threads of them all."""

    at: float
    answered: int
    memory: tuple[int, ...]
    files: int
    threads: int

    @property
    def total(self) -> int:
        return sum(self.memory)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A whole run. `rate` is in requests per second, `refused` and `vanished` of clients that mean it; `minutes` are
    the load's own figures, a minute each."""

    engine: str
    seconds: float
    warm_up: float
    capacity: float
    rate: float
    sent: int
    answered: int
    failures: Mapping[str, int]
    skipped: int
    vanished: int
    spans: int
    looks: tuple[Look, ...]
    minutes: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settled(self) -> tuple[Look, ...]:
        """The looks after the warm-up."""
        return tuple(look for look in self.looks if look.at >= self.warm_up)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The median of the slopes between all pairs of points (H. Theil 1950; P. K. Sen 1968): up to 29 % of the points
    may be anything. 0 where all points have one x."""
    across, up = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    first, second = np.triu_indices(len(across), k=1)
    apart = across[second] - across[first]
    pairs = apart != 0
    return float(np.median((up[second] - up[first])[pairs] / apart[pairs])) if pairs.any() else 0.0


def rows(run: Recording) -> list[Row]:
    """Memory, files, and lost requests."""
    looks, long = run.settled, run.seconds >= LONG
    held = float(np.median([look.total for look in looks]))
    by_time = 3600 * slope([look.at for look in looks], [look.total for look in looks])
    by_request = slope([look.answered for look in looks], [look.total for look in looks])
    detail = f"{by_time / 1e6:+.2f} MB in an hour on {held / 1e6:.0f} MB; {run.seconds / 60:.0f} min, {run.engine}"
    percent, each = "soak: memory slope, per cent in an hour", "soak: memory kept of each request"
    lost = run.sent - run.answered
    asked = f"of {run.sent} at {run.rate:.1f} requests/s, capacity {run.capacity:.1f}; {dict(run.failures) or 'none'}"
    files = looks[-1].files - looks[0].files + looks[-1].threads - looks[0].threads
    return [
        _judged(percent, 100 * by_time / held, LARGEST_SLOPE_PERCENT if long else None, unit="%", detail=detail),
        _judged(each, by_request, None if long else LARGEST_REMAINDER, unit="bytes", detail=f"{run.answered} requests"),
        at_most("soak: lost requests", float(lost + run.skipped), 0.0, detail=asked),
        at_most("soak: more open files and threads at the end", float(files), MOST_NEW_FILES),
    ]


def _judged(name: str, value: float, bar: float | None, *, unit: str, detail: str) -> Row:
    if bar is None:
        return told(name, value, unit=unit, detail=detail)
    return at_most(name, value, bar, unit=unit, detail=detail)

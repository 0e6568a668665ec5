"""Detects that the level of a series has changed.

The tabular CUSUM of E. S. Page, "Continuous Inspection Schemes", Biometrika 41 (1954), tuned as in D. C. Montgomery,
"Introduction to Statistical Quality Control", chapter 9, to shifts of two standard deviations: k = 1. A shift of three
is found after some four readings. The bound h is 8, since the level itself is uncertain: it is learnt from the first
readings, by median and median absolute deviation, so that a few outliers among them do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

LEARN = 36
K = 1.0
H = 8.0
# One reading counts for so many deviations at most: an outlier alone is no change of level.
MOST = 4.0
# Readings until the new level is taken for the usual one.
NEW_NORMAL = 24
# Of the median absolute deviation of a normal distribution, its standard deviation.
MAD_TO_DEVIATION = 1.4826
# A change of less than 5 % is none: the deviation of a very steady series is taken for this.
LEAST_DEVIATION = 0.05


@dataclass(frozen=True, kw_only=True)
class Level:
    """The state of one series. `center` is None while it learns; `sum` grows with what lies above (for a series that
    may not rise) or below; `alarmed` counts readings since the alarm."""

    upwards: bool
    learnt: tuple[float, ...] = ()
    center: float | None = None
    deviation: float = LEAST_DEVIATION
    sum: float = 0.0
    alarmed: int = 0

    @property
    def changed(self) -> bool:
        return self.alarmed > 0

    def read(self, value: float) -> Level:
        """The state after one more reading; values are logarithms, so that shares count and not amounts."""
        if self.center is None:
            learnt = (*self.learnt, value)
            if len(learnt) < LEARN:
                return replace(self, learnt=learnt)
            center = median(learnt)
            spread = MAD_TO_DEVIATION * median(abs(each - center) for each in learnt)
            return replace(self, learnt=(), center=center, deviation=max(spread, LEAST_DEVIATION))
        off = (value - self.center) / self.deviation * (1 if self.upwards else -1)
        total = max(0.0, self.sum + min(MOST, off) - K)
        if total <= H:
            return replace(self, sum=total, alarmed=0)
        if self.alarmed >= NEW_NORMAL:
            return Level(upwards=self.upwards)
        # Held at twice the bound, so that the way back is as long as the way there.
        return replace(self, sum=min(total, 2 * H), alarmed=self.alarmed + 1)

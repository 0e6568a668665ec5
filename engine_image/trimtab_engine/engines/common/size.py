"""How many requests run at once, by the time between their tokens and by what waits. Pure.

Additive increase, multiplicative decrease, as the tuner's law has it (`tuner/law.py`, where the sources are). The tuner
moves the limit in steps of seconds and by two targets; this follows the load within a second, below that limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trimtab_engine.limits.batching import Batching
from trimtab_engine.limits.limits import Limits

WINDOW_SECONDS = 0.25
FEWEST_GAPS = 16  # between tokens, of all requests together
MOST_GAPS = 4096
SHARE = 0.9  # of the gaps within the target
BACK_OFF = 0.9
LARGEST_BACK_OFF = 0.5
ROOM = 0.85  # of the target, below which more may run
STEPS = 16  # additive steps to cross the whole range


class BatchSize:
    """Times are in seconds of one clock."""

    def __init__(self, now: float) -> None:
        self._allowed = math.inf
        self._began = now
        self._gaps: list[float] = []
        self._peak = 0

    def allowed(self, limits: Limits, batching: Batching, *, held: float) -> int:
        """How many may run while the first of those that wait has waited for `held` seconds."""
        most = limits.max_running_requests
        if batching.target_token_seconds is None or held >= batching.longest_hold_seconds:
            return most
        return int(min(most, max(self._allowed, batching.fewest_requests)))

    def note(self, gaps: Sequence[float]) -> None:
        """Times between tokens."""
        self._gaps += gaps[: MOST_GAPS - len(self._gaps)]

    def look(self, limits: Limits, batching: Batching, *, now: float, running: int, waiting: int) -> None:
        """Adapts the size where enough was seen since it last did; asked whenever a request begins, ends or waits."""
        self._peak = max(self._peak, running)
        if batching.target_token_seconds is None:
            self._allowed, self._gaps = math.inf, []
            return
        if not running:  # what comes next is another load
            self._begin(now, running)
        if now - self._began < WINDOW_SECONDS or len(self._gaps) < FEWEST_GAPS:
            return
        over = percentile(self._gaps, SHARE) / batching.target_token_seconds
        most = limits.max_running_requests
        if over > 1:
            kept = max(LARGEST_BACK_OFF, min(BACK_OFF, 1 / over))
            self._allowed = max(1, math.floor(self._peak * kept))
        elif over < ROOM and waiting and self._peak >= self._allowed:
            self._allowed = min(most, self._allowed + max(1, most // STEPS))
        self._begin(now, running)

    def _begin(self, now: float, running: int) -> None:
        self._began, self._gaps, self._peak = now, [], running


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that so many of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]

"""Judges of other shapes, on the same recordings.

Fixed thresholds as Flagger's: each interval every metric is compared with a number from the configuration; five failed
checks end the canary, and after twenty intervals it is promoted. Mann-Whitney as Kayenta's: each interval the canary's
requests are compared with stable's by ranks; a significant increase ends it. Both as their documentation describes
them, and with the same twenty intervals to a promotion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tests.bench.judge.simulate import Change, Recording, World
from trimtab.judge.history import ERRORS, Flags, Floats, History
from trimtab.judge.samples import history_of
from trimtab.model.slo import Latency
from trimtab.model.verdict import Call

PROMOTED_AFTER = 20  # intervals
_FAILURES = 5
_SUCCESS = 0.99
_COMPARED = (Latency.TTFT, Latency.ITL)
_ALPHA = 0.01 / (len(_COMPARED) * PROMOTED_AFTER)  # Bonferroni over metrics and looks

Rival = Callable[[History], tuple[Call, int]]


def fixed_thresholds(limits: dict[Latency, float]) -> Rival:
    """`limits`: the p95, seconds, that a service's owner writes down."""

    def judged(history: History) -> tuple[Call, int]:
        failed = np.zeros(history.looks, dtype=bool)
        for latency, limit in limits.items():
            failed |= _quantile(history, latency, history.canary, 0.95) > limit
        requests = np.maximum(history.requests()[:, history.canary].sum(axis=1), 1.0)
        failed |= history.counters[ERRORS][:, history.canary].sum(axis=1) / requests > 1 - _SUCCESS
        checks = np.flatnonzero(np.cumsum(failed[:PROMOTED_AFTER]) >= _FAILURES)
        return (Call.BAD, int(checks[0]) + 1) if checks.size else _end(history)

    return judged


def careful_limits(histories: Iterable[History]) -> dict[Latency, float]:
    """What a careful owner of the service would write down, seconds: a quarter above the p95 that the dashboard
    usually shows, which is stable's median over the intervals.
    """
    shown: dict[Latency, list[float]] = {latency: [] for latency in _COMPARED}
    for history in histories:
        for latency, values in shown.items():
            values.extend(_quantile(history, latency, history.stable, 0.95).tolist())
    return {latency: 1.25 * float(np.nanmedian(values)) for latency, values in shown.items()}


def simulated(world: World, *, recordings: int) -> Iterator[History]:
    """Unchanged canaries in this world, as long as the rivals look at them."""
    for seed in range(recordings):
        pods = Recording(world, Change(), seed).pods(PROMOTED_AFTER)
        yield history_of(pods, interval=15.0, began=0.0, looks=PROMOTED_AFTER)


def mann_whitney(history: History) -> tuple[Call, int]:
    """By bucket counts, ties corrected, one-sided; the requests of an interval are taken for independent."""
    limit = _upper_quantile(_ALPHA)
    bad = np.zeros(history.looks, dtype=bool)
    for latency in _COMPARED:
        ours, theirs = (_counts(history, latency, side) for side in (history.canary, history.stable))
        # A token is not a sample: each request counts once.
        requests = history.requests()
        for counts, side in ((ours, history.canary), (theirs, history.stable)):
            total = np.maximum(counts.sum(axis=1), 1e-9)
            counts *= np.minimum(1.0, requests[:, side].sum(axis=1) / total)[:, None]
        bad |= _rank_score(ours, theirs) > limit
    found = np.flatnonzero(bad[:PROMOTED_AFTER])
    return (Call.BAD, int(found[0]) + 1) if found.size else _end(history)


def _end(history: History) -> tuple[Call, int]:
    return (Call.GOOD, PROMOTED_AFTER) if history.looks >= PROMOTED_AFTER else (Call.UNKNOWN, history.looks)


def _counts(history: History, latency: Latency, side: Flags) -> Floats:
    """(K, B) observations per bucket."""
    below = history.histograms[latency].below[:, side].sum(axis=1)
    return np.diff(below, axis=1, prepend=0.0)


def _quantile(history: History, latency: Latency, side: Flags, q: float) -> Floats:
    """(K) by interpolation as PromQL's; NaN, which passes every check, without observations."""
    series = history.histograms[latency]
    below = series.below[:, side].sum(axis=1)
    bounds = np.append(0.0, np.append(series.bounds[:-1], series.bounds[-2]))
    found = np.full(len(below), np.nan)
    for place, row in enumerate(below):
        if row[-1] > 0:
            found[place] = np.interp(q * row[-1], np.append(0.0, row), bounds)
    return found


def _rank_score(ours: Floats, theirs: Floats) -> Floats:
    """(K) standard scores of the Mann-Whitney statistic; 0 where a side is empty."""
    n, m = ours.sum(axis=1), theirs.sum(axis=1)
    lower = np.cumsum(theirs, axis=1) - theirs
    statistic = (ours * (lower + theirs / 2)).sum(axis=1)
    total = n + m
    ties = ((ours + theirs) ** 3 - (ours + theirs)).sum(axis=1)
    with np.errstate(all="ignore"):
        variance = n * m / 12 * ((total + 1) - ties / (total * (total - 1)))
        score = (statistic - n * m / 2) / np.sqrt(variance)
    return np.where(np.isfinite(score), score, 0.0)


def _upper_quantile(alpha: float) -> float:
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erfc(middle / math.sqrt(2)) / 2 > alpha else (low, middle)
    return high

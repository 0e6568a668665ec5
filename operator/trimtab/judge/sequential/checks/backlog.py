"""Do requests pile up on the canary? A histogram of latencies knows only those that got their first token.

By Little's law a request that arrives now waits about waiting / throughput seconds for its turn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import WAITING, Flags, Floats
from trimtab.judge.sequential.case import Case
from trimtab.judge.sequential.checks.traffic import unequal
from trimtab.judge.words import bad, duration, good
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency
from trimtab.model.verdict import Verdict

_INTERVALS = 2  # newest: one alone may be a crowd that came at once
_LEAST_WAITING = 4.0  # requests per pod, in each of them: fewer are a moment's chance
_FEWEST = 8.0  # requests that wait or have ended
_TIMES_STABLE = 3.0  # of the longest wait on a stable pod
_BEYOND_OBJECTIVE = 1.5  # an estimate must be further beyond than a measurement


def queued_requests(case: Case) -> Iterator[Verdict]:
    """Bad where a queue alone breaks the objective, and stable has none like it; nothing without a gauge of waiting."""
    history = case.history
    waiting = history.gauges.get(WAITING)
    if waiting is None or history.looks < _INTERVALS:
        return
    counts = np.nan_to_num(history.requests())
    newest, ended = waiting[-_INTERVALS:], counts[-_INTERVALS:]
    if not np.isfinite(newest[:, history.canary]).any(axis=1).all():
        return
    wait = _wait(newest, ended, history.canary, history.interval)
    evidence = {"canary.waiting": float(np.nansum(newest[-1, history.canary])), "canary.expectedWait": wait}
    numbers = f"{evidence['canary.waiting']:.0f} requests wait on the canary, about {duration(wait)} each"
    beside = _beside(case, waiting, counts)
    if beside is not None:
        evidence["stable.expectedWait"] = beside
        numbers += f"; stable {duration(beside)}"
    least = float(np.nanmean(newest[:, history.canary], axis=1).min())
    enough = np.nansum(newest[-1, history.canary]) + ended[:, history.canary].sum() >= _FEWEST
    limit, reason = _limit(case)
    piles_up = least >= _LEAST_WAITING and enough and limit is not None and wait > limit
    if piles_up and (beside is None or wait > _TIMES_STABLE * beside) and unequal(case) <= 0:
        yield bad(reason, f"{numbers}; up to {duration(limit or 0.0)} is tolerable.", evidence)
    else:
        yield good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)


def _wait(waiting: Floats, ended: Floats, members: Flags, interval: float) -> float:
    """Seconds that a request waits on these pods; with no end at all, as if one had ended."""
    queue, done = float(np.nansum(waiting[:, members])), float(np.sum(ended[:, members]))
    return queue * interval / max(done, 1.0)


def _beside(case: Case, waiting: Floats, ended: Floats) -> float | None:
    """The longest wait that there ever was on a stable pod, because queues wander between pods that are alike; what
    there was before the promotion where stable is gone.
    """
    stable = case.history.stable
    if not stable.any():
        return case.before("expectedWait")
    queues, done = np.nan_to_num(waiting[:, stable]), ended[:, stable]
    queues, done = queues[1:] + queues[:-1], done[1:] + done[:-1]
    return float((queues * case.history.interval / np.maximum(done, 1.0)).max())


def _limit(case: Case) -> tuple[float | None, Reason]:
    """The loosest objective that contains the wait, of TTFT or else end to end, and more; without one, stable's mean
    end-to-end latency: a wait beyond that doubles what a user sees.
    """
    for latency in (Latency.TTFT, Latency.E2E):
        targets = case.policy.targets(latency)
        if targets:
            return _BEYOND_OBJECTIVE * max(target.seconds for target in targets), Reason.SLO_REGRESSION
    series = case.history.histograms.get(Latency.E2E)
    if series is None or case.alone:
        return case.before("e2e.mean"), Reason.WORSE_THAN_STABLE
    total, count = (float(np.nansum(part[:, case.history.stable])) for part in (series.total, series.count))
    return (total / count if count > 0 else None), Reason.WORSE_THAN_STABLE

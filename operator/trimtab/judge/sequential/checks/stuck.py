"""Do requests run on the canary and never end? A histogram of latencies does not know them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import RUNNING, WAITING, Floats
from trimtab.judge.sequential.case import Case
from trimtab.judge.words import bad
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency
from trimtab.model.verdict import Verdict

# Requests that should have ended: by chance none of them is one in a million, at three times Poisson's variance.
_EXPECTED = 40.0
_LONGEST = 8  # intervals
_LIFETIMES = 3.0  # of a request on stable: sooner, a new pod has ended none because all of them are young


def _usual(case: Case) -> float:
    """Stable's mean end-to-end latency, seconds; 0 where no histogram tells."""
    series = case.history.histograms.get(Latency.E2E)
    if series is None:
        return 0.0
    total, count = (float(np.nansum(part[:, case.history.stable])) for part in (series.total, series.count))
    return total / count if count > 0 else 0.0


def _ended_on_stable(case: Case, counts: Floats, begin: int, end: int) -> float:
    """By pod, in the looks from `begin` to `end`; not what counts in the first of them and came before."""
    stable = case.history.stable
    ended = np.nan_to_num(counts[begin:end, stable])
    if begin:
        ended[0, case.history.unseen[begin - 1, stable]] = 0.0
    return float(ended.sum(axis=0).mean())


def stuck_requests(case: Case) -> Iterator[Verdict]:
    history = case.history
    known = [history.gauges[name][:, history.canary] for name in (RUNNING, WAITING) if name in history.gauges]
    counts = history.requests()
    if not known or not history.canary.any() or not history.stable.any() or not history.looks:
        return
    here = np.nansum(np.array(known), axis=(0, 2))
    idle = (np.nan_to_num(counts[:, history.canary], nan=1.0) == 0).all(axis=1)
    # What ended in an interval that no scrape fell into is counted in a later one.
    looks = history.looks
    while looks and history.unseen[looks - 1, history.canary].any():
        looks -= 1
    run = 0
    while run < min(_LONGEST, looks) and idle[looks - 1 - run] and here[looks - 1 - run] >= 1:
        run += 1
    # In its first interval the canary may have been scraped when it had just begun.
    whole = run - 1 if run == looks else run
    if whole < 1 or whole * history.interval < _LIFETIMES * _usual(case):
        return
    expected = _ended_on_stable(case, counts, looks - run, looks) * int(history.canary.sum())
    if expected >= _EXPECTED:
        seconds = run * history.interval
        message = f"{here[looks - 1]:.0f} requests are on the canary and none has ended in {seconds:.0f} s"
        evidence = {"canary.running": float(here[looks - 1]), "expectedRequests": expected}
        yield bad(Reason.WORSE_THAN_STABLE, f"{message}; stable's pods ended {expected:.0f} each.", evidence)

"""Is the canary short of KV cache, so that it throws requests out and computes them again?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import PREEMPTIONS
from trimtab.judge.sequential.case import Case
from trimtab.judge.sequential.checks.traffic import unequal
from trimtab.judge.words import bad, good, unknown
from trimtab.model.reason import Reason
from trimtab.model.verdict import Verdict

# Preemptions come in bursts when the cache is full, for all pods alike, so only multiples of stable's rate count.
_BAD_TIMES, _BAD_MORE = 4.0, 0.5  # per request
_GOOD_TIMES, _GOOD_MORE = 2.0, 0.1
_BAD_FROM, _FEWEST = 7, 50.0  # intervals, requests


def preemptions(case: Case) -> Iterator[Verdict]:
    history = case.history
    counted = history.counters.get(PREEMPTIONS)
    if counted is None or not np.isfinite(counted[:, history.canary]).any():
        return
    ours, theirs = float(case.canary_requests.sum()), float(case.stable_requests.sum())
    if ours <= 0 or theirs <= 0:
        return
    rate = float(np.nansum(counted[:, history.canary])) / ours
    usual = float(np.nansum(counted[:, history.stable])) / theirs
    evidence = {"canary.preemptionsPerRequest": rate, "stable.preemptionsPerRequest": usual}
    numbers = f"{rate:.2g} preemptions per request, stable {usual:.2g}"
    if rate <= _GOOD_TIMES * usual + _GOOD_MORE:
        yield good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)
    elif (
        rate > _BAD_TIMES * usual + _BAD_MORE and history.looks >= _BAD_FROM and ours >= _FEWEST and unequal(case) <= 0
    ):
        yield bad(Reason.WORSE_THAN_STABLE, f"{numbers}.", evidence)
    else:
        yield unknown(Reason.TOO_FEW_SAMPLES, f"{numbers}; too many to be called no worse.", evidence)

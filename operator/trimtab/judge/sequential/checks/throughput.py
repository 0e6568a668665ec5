"""Does the promoted revision reach the throughput objective while requests wait for it?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import TOKENS, WAITING
from trimtab.judge.sequential.case import Case
from trimtab.judge.words import bad, good, unknown
from trimtab.model.reason import Reason
from trimtab.model.verdict import Verdict

_INTERVALS = 3  # newest: enough that a pause between two crowds is not taken for a lack
_SHORT = 0.8  # of the objective: throughput follows demand, so only a clear lack counts
_DEMAND = 1.0  # requests waiting per pod in each interval: without them it is demand that is missing


def throughput_objective(case: Case) -> Iterator[Verdict]:
    """Only while watching: a canary carries a share of the load, and its tokens per second say nothing about all."""
    wanted = case.policy.slo.min_output_tokens_per_second
    if wanted is None or not case.policy.watching:
        return
    tokens = case.history.counters.get(TOKENS)
    known = tokens is not None and np.isfinite(tokens[-_INTERVALS:, case.history.canary]).any(axis=1).all()
    if tokens is None or not known or case.history.looks < _INTERVALS:
        yield unknown(Reason.TOO_FEW_SAMPLES, "The promoted revision's throughput cannot be told yet.")
        return
    rate = float(np.nansum(tokens[-_INTERVALS:, case.history.canary])) / (_INTERVALS * case.history.interval)
    evidence = {"canary.outputTokensPerSecond": rate}
    numbers = f"{rate:.0f} output tokens/s, the objective is {wanted:.0f}"
    waiting = case.history.gauges.get(WAITING)
    queue = 0.0
    if waiting is not None:
        queue = float(np.nan_to_num(waiting[-_INTERVALS:, case.history.canary]).mean(axis=1).min())
    if rate < _SHORT * wanted and queue >= _DEMAND:
        yield bad(Reason.SLO_REGRESSION, f"{numbers}, and {queue:.0f} requests wait on each pod.", evidence)
    else:
        yield good(Reason.WITHIN_SLO, f"{numbers}.", evidence)

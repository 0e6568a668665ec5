"""Are more of the canary's requests (or tokens) far slower than stable's ever are?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import Floats
from trimtab.judge.sequential.betting import capital
from trimtab.judge.sequential.case import Case
from trimtab.judge.sequential.checks.traffic import COMPARED_FROM, unequal
from trimtab.judge.sequential.means import NODE_EVENT
from trimtab.judge.sequential.policy import LABEL
from trimtab.judge.words import bad, duration, good, percent, unknown
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency
from trimtab.model.verdict import Verdict

# The share that stable may have beyond the edge after the slack. Nearer the middle a distribution is so steep that a
# pod 3 % slower has 30 % more beyond its p95.
_TAIL = 0.05
# More than stable's share that is no matter, and how much more may be possible in a Good canary.
_MARGINS = {Latency.ITL: (0.005, 0.015), Latency.TTFT: (0.01, 0.03), Latency.E2E: (0.01, 0.03)}
_BAD_FROM, _GOOD_BELOW = math.log(1000), math.log(20)  # of capital
_ERRORS = 2.0  # standard errors in Good's upper bound


def tail_latencies(case: Case) -> Iterator[Verdict]:
    for latency in case.history.histograms:
        if case.policy.traded(latency) or case.means(latency) is None:
            continue
        edge = _edge(case, latency)
        if edge is not None:
            yield _judged(case, latency, edge)


def _edge(case: Case, latency: Latency) -> float | None:
    """The first bound that stable exceeds seldom even if it were slower by the slack; None beyond the last bound."""
    bounds = case.history.histograms[latency].bounds
    _, below = case.pooled(latency)
    if not np.isfinite(below).all():
        return None
    finite = np.isfinite(bounds)
    lowered = np.interp(bounds[finite] * math.exp(-case.slack(latency)), bounds[finite], below[finite], left=0.0)
    rare = np.flatnonzero(1 - lowered <= _TAIL)
    return float(bounds[finite][rare[0]]) if rare.size else None


def _judged(case: Case, latency: Latency, edge: float) -> Verdict:
    ours, theirs = case.shares_above(latency, edge)
    both = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[both], theirs[both]
    counts = case.canary_requests[both]
    slack, allowed = _MARGINS[latency]
    if not counts.sum() > 0:
        return unknown(Reason.TOO_FEW_SAMPLES, f"{LABEL[latency]} tail: nothing to compare yet.")
    share, usual = float(ours @ counts / counts.sum()), float(theirs @ counts / counts.sum())
    evidence = {
        f"{latency.value}.tailEdge": edge,
        f"canary.{latency.value}.tailShare": share,
        f"stable.{latency.value}.tailShare": usual,
    }
    numbers = f"{LABEL[latency]} above {duration(edge)}: {percent(share)}, stable {percent(usual)}"
    stake = capital(ours, theirs + slack, spared=NODE_EVENT)
    if stake > _BAD_FROM:
        if unequal(case) > 0:
            return unknown(Reason.UNEQUAL_LOAD, f"{numbers}, under more load than stable.", evidence)
        return bad(Reason.WORSE_THAN_STABLE, f"{numbers}; more than chance allows.", evidence)
    upper = share - usual + _ERRORS * _error(ours - theirs, counts)
    if int(both.sum()) < COMPARED_FROM or stake > _GOOD_BELOW or upper > allowed:
        message = f"{numbers}; up to {percent(max(0.0, upper))} more is possible."
        return unknown(Reason.TOO_FEW_SAMPLES, message, evidence)
    return good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)


def _error(differences: Floats, counts: Floats) -> float:
    """The standard error of their weighted mean, from how intervals differ; never less than one request would move."""
    weights = counts / counts.sum()
    mean = float(weights @ differences)
    from_intervals = math.sqrt(float((weights**2) @ (differences - mean) ** 2))
    return max(from_intervals, 1 / float(counts.sum()))

"""Are more of the canary's requests (or tokens) far slower than stable's ever are?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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

# The share that stable may have beyond the edge after the slack, for calling the canary Bad and Good. Nearer the middle
# a distribution is so steep that a pod 3 % slower has 30 % more beyond its p95.
_BAD_TAIL, _GOOD_TAIL, _NONE = 0.01, 0.05, 1e-6
# More than stable's share that is no matter, and how much more may be possible in a Good canary.
_MARGINS = {Latency.ITL: (0.005, 0.015), Latency.TTFT: (0.01, 0.03), Latency.E2E: (0.01, 0.03)}
_BAD_FROM, _GOOD_BELOW = math.log(1000), math.log(20)  # of capital
_ERRORS = 2.0  # standard errors in Good's upper bound


def tail_latencies(case: Case) -> Iterator[Verdict]:
    for latency in case.history.histograms:
        means = case.means(latency)
        if case.policy.traded(latency) or means is None:
            continue
        edges = _edges(case, latency, means.estimate()[0])
        if edges is not None:
            yield _judged(case, latency, *edges)


def _edges(case: Case, latency: Latency, shift: float) -> tuple[float, float] | None:
    """The first bounds that stable exceeds seldom even if it were slower by the slack; None beyond the last bound.

    The slack is at least the `shift` of the canary's mean (ln), which is judged by itself: here the question is whether
    there are more slow ones than that explains.
    """
    bounds = case.history.histograms[latency].bounds
    _, below = case.pooled(latency)
    if not np.isfinite(below).all():
        return None
    finite = np.isfinite(bounds)
    # Inside a bucket a tail falls about exponentially, not in a straight line.
    above = np.log(np.maximum(1 - below[finite], _NONE))
    lowered = np.interp(bounds[finite] * math.exp(-max(case.slack(latency), shift)), bounds[finite], above, left=0.0)
    rarest, rare = (np.flatnonzero(lowered <= math.log(tail)) for tail in (_BAD_TAIL, _GOOD_TAIL))
    return (float(bounds[finite][rarest[0]]), float(bounds[finite][rare[0]])) if rarest.size else None


@dataclass(frozen=True, slots=True)
class _Shares:
    """Beyond one edge, in the intervals in which both sides have requests: the shares (k) and the canary's requests."""

    ours: Floats
    theirs: Floats
    counts: Floats

    @property
    def pooled(self) -> tuple[float, float]:
        weights = self.counts / self.counts.sum()
        return float(self.ours @ weights), float(self.theirs @ weights)


def _shares(case: Case, latency: Latency, edge: float) -> _Shares:
    ours, theirs = case.shares_above(latency, edge)
    counts = case.canary_seen(latency)
    both = np.isfinite(ours) & np.isfinite(theirs) & (counts > 0)
    return _Shares(ours[both], theirs[both], counts[both])


def _judged(case: Case, latency: Latency, rarest: float, rare: float) -> Verdict:
    far, near = _shares(case, latency, rarest), _shares(case, latency, rare)
    slack, allowed = _MARGINS[latency]
    if not far.counts.size:
        return unknown(Reason.TOO_FEW_SAMPLES, f"{LABEL[latency]} tail: nothing to compare yet.")
    share, usual = far.pooled
    evidence = {
        f"{latency.value}.tailEdge": rarest,
        f"canary.{latency.value}.tailShare": share,
        f"stable.{latency.value}.tailShare": usual,
    }
    stake = capital(far.ours, far.theirs + slack, spared=NODE_EVENT)
    if stake > _BAD_FROM:
        numbers = f"{LABEL[latency]} above {duration(rarest)}: {percent(share)}, stable {percent(usual)}"
        if unequal(case) > 0:
            return unknown(Reason.UNEQUAL_LOAD, f"{numbers}, under more load than stable.", evidence)
        return bad(Reason.WORSE_THAN_STABLE, f"{numbers}; more than chance allows.", evidence)
    share, usual = near.pooled
    numbers = f"{LABEL[latency]} above {duration(rare)}: {percent(share)}, stable {percent(usual)}"
    upper = share - usual + _ERRORS * _error(near.ours - near.theirs, near.counts)
    if near.counts.size < COMPARED_FROM or stake > _GOOD_BELOW or upper > allowed:
        message = f"{numbers}; up to {percent(max(0.0, upper))} more is possible."
        return unknown(Reason.TOO_FEW_SAMPLES, message, evidence)
    return good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)


def _error(differences: Floats, counts: Floats) -> float:
    """The standard error of their weighted mean, from how intervals differ; never less than one request would move."""
    weights = counts / counts.sum()
    mean = float(weights @ differences)
    from_intervals = math.sqrt(float((weights**2) @ (differences - mean) ** 2))
    return max(from_intervals, 1 / float(counts.sum()))

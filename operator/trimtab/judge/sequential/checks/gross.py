"""The fast path: latencies so far off that one or two intervals suffice."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from trimtab.judge.sequential.bounds import normal_quantile
from trimtab.judge.sequential.case import Case
from trimtab.judge.sequential.checks.traffic import unequal
from trimtab.judge.sequential.policy import LABEL
from trimtab.judge.statistics import wilson
from trimtab.judge.words import bad, duration, percent
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget
from trimtab.model.verdict import Verdict

# Beyond the objective: four times the allowed share even at its lower bound, and far more than stable's.
_TIMES_ALLOWED, _TIMES_STABLE = 4.0, 4.0
_SURE, _DISPERSION, _FEWEST = 3.5, 2.0, 4.0  # standard errors, of counts, requests
# Against stable: a node that slows its pods by less than this is waited out by the slower checks. Such a node slows all
# latencies alike, so one that alone is far off needs less. Nothing within this many margins is far off.
_FAR, _FAR_WITH_OTHERS = math.log(1.4), math.log(3.0)
_MARGINS = 1.8
_ALIKE = 0.2  # the share of the one difference that the other shows
_ALPHA, _LOOK_ALPHA = 0.001, 0.00005  # of pods alike, paid once; of noise, at each look
_LOAD_ERRORS = 2.0  # standard errors of the load that the latency may owe to it
_WINDOWS = (2, 3)  # newest intervals
_FEWEST_COMPARED = 24.0  # requests of the canary in them: the mean of fewer is far from normal


def far_beyond_objective(case: Case) -> Iterator[Verdict]:
    """Bad within one interval: most of what the objective is for is lost, on the canary alone."""
    for target in case.policy.slo.latencies:
        yield from _beyond(case, target)


def _beyond(case: Case, target: LatencyTarget) -> Iterator[Verdict]:
    history = case.history
    series = history.histograms.get(target.metric)
    if series is None or not history.looks:
        return
    edges = series.bounds[series.bounds >= target.seconds * (1 - 1e-9)]
    if not edges.size or math.isinf(edges[0]):
        return
    ours, theirs = case.shares_above(target.metric, float(edges[0]), case.settled)
    count = float(case.canary_seen(target.metric)[-1])
    if not math.isfinite(ours[-1]) or count < _FEWEST:
        return
    share = float(ours[-1])
    usual = float(theirs[-1]) if math.isfinite(theirs[-1]) else case.share_before(f"{target.name}.shareAbove")
    worst = max(usual, _worst(case, target, float(edges[0])))
    lower = wilson(share, count, _DISPERSION, _SURE)[0]
    if lower > min(0.9, max(_TIMES_ALLOWED * target.allowed_share, _TIMES_STABLE * worst)):
        numbers = (
            f"{LABEL[target.metric]} above {duration(target.seconds)} for {percent(share)} of {count:.0f} requests"
        )
        message = f"{numbers} in one interval, {percent(target.allowed_share)} allowed; stable {percent(usual)}."
        evidence = {f"canary.{target.name}.shareAbove": share, f"stable.{target.name}.shareAbove": usual}
        yield bad(Reason.SLO_REGRESSION, message, evidence)


def _worst(case: Case, target: LatencyTarget, edge: float) -> float:
    """The largest share that any stable pod had above the edge in any interval: what happens to stable is not gross."""
    history = case.history
    series = history.histograms[target.metric]
    requests = history.observed(target.metric)[:, history.stable]
    column = int(np.flatnonzero(series.bounds == edge)[0])
    with np.errstate(all="ignore"):
        shares = (1 - series.below[:, :, column] / series.count)[:, history.stable]
    known = np.isfinite(shares) & (requests >= _FEWEST)
    return float(shares[known].max()) if known.any() else 0.0


def far_slower_than_stable(case: Case) -> Iterator[Verdict]:
    """Bad within two or three intervals, each of them beyond the limit by itself."""
    for latency in Latency:
        means = case.means(latency)
        if (
            means is None
            or case.policy.traded(latency)
            or unequal(case) > 0
            or means.place[-1] != case.history.looks - 1
        ):
            continue
        for window in _WINDOWS:
            if means.looks < window or case.canary_seen(latency)[-window:].sum() < _FEWEST_COMPARED:
                continue
            difference, variance, least = means.last(window)
            limit = _limit(case, latency, window, difference)
            load = case.elasticity(latency) * case.load.error
            sure = math.hypot(normal_quantile(_LOOK_ALPHA) * math.sqrt(variance), _LOAD_ERRORS * load)
            effect = case.load_effect(latency)
            left = difference - effect
            if min(least - effect, left) > limit and case.spread(latency).tail(left, _ALPHA, sure) < _ALPHA:
                ratio = math.exp(difference)
                message = f"{LABEL[latency]} was {ratio:.2f} times stable's in the last {window} intervals."
                yield bad(Reason.WORSE_THAN_STABLE, message, {f"{latency.value}.recentRatio": ratio})
                break


def _limit(case: Case, latency: Latency, window: int, difference: float) -> float:
    return max(_far(case, latency, window, difference), _MARGINS * case.policy.margin(latency))


def _far(case: Case, latency: Latency, window: int, difference: float) -> float:
    for other in Latency:
        means = case.means(other) if other not in (latency, Latency.E2E) and latency is not Latency.E2E else None
        if means is None or means.looks < window or case.policy.traded(other):
            continue
        if float(np.mean(means.difference[-window:])) > _ALIKE * difference:
            return _FAR_WITH_OTHERS
    return _FAR_WITH_OTHERS if latency is Latency.E2E else _FAR

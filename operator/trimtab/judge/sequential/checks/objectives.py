"""Does the canary keep the latency objectives, or break them no more than stable does in the same intervals?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import Floats
from trimtab.judge.sequential.betting import capital
from trimtab.judge.sequential.case import Case
from trimtab.judge.sequential.means import NODE_EVENT
from trimtab.judge.sequential.policy import LABEL
from trimtab.judge.words import bad, duration, good, percent, unknown
from trimtab.model.reason import Reason
from trimtab.model.slo import LatencyTarget
from trimtab.model.verdict import Verdict

_BAD_FROM = math.log(1000)  # of capital
_NEAR = 0.8  # of the allowed share: from here on stable breaks the objective too, or is about to


def latency_objectives(case: Case) -> Iterator[Verdict]:
    for target in case.policy.slo.latencies:
        if target.metric in case.history.histograms:
            yield _judged(case, target)


def _judged(case: Case, target: LatencyTarget) -> Verdict:
    what, allowed = f"{LABEL[target.metric]} p{target.percentile}", target.allowed_share
    bounds = case.history.histograms[target.metric].bounds
    ours, theirs = case.pooled(target.metric)
    if not np.isfinite(ours).all():
        return unknown(Reason.TOO_FEW_SAMPLES, f"{what}: no finished request to judge by yet.")
    share, usual = _share_above(bounds, ours, target.seconds), _share_above(bounds, theirs, target.seconds)
    worn = case.share_before(f"{target.name}.shareAbove")  # where stable is gone
    evidence = {
        f"canary.{target.name}.shareAbove": share,
        f"stable.{target.name}.shareAbove": usual,
        f"{target.name}.allowedShare": allowed,
    }
    numbers = f"{what} objective {duration(target.seconds)}: {percent(share)} above it, {percent(allowed)} allowed"
    if _surely_broken(case, target):
        beside = f"; stable {percent(usual)}" if math.isfinite(usual) else ""
        return bad(Reason.SLO_REGRESSION, f"{numbers}{beside}.", evidence)
    if case.policy.traded(target.metric):
        tight = target.seconds * case.policy.traded_headroom
        if _share_above(bounds, ours, tight) > allowed:
            message = f"{numbers}. It is traded and needs headroom: {duration(tight)} is not kept."
            return unknown(Reason.TOO_FEW_SAMPLES, message, evidence)
    elif allowed < share <= worn:
        message = f"{numbers}; before the promotion stable broke it as far."
        return good(Reason.NOT_WORSE_THAN_STABLE, message, evidence)
    elif share > allowed and usual > _NEAR * allowed and share <= _share_above(bounds, theirs, _eased(case, target)):
        message = f"{numbers}; stable {percent(usual)}, which the margin allows to grow as far."
        return good(Reason.NOT_WORSE_THAN_STABLE, message, evidence)
    if share > allowed:
        return unknown(Reason.TOO_FEW_SAMPLES, f"{numbers}; too close to call.", evidence)
    return good(Reason.WITHIN_SLO, f"{numbers}.", evidence)


def _eased(case: Case, target: LatencyTarget) -> float:
    """The threshold that stable would have to keep for a canary slower by the margin to keep the objective's."""
    return target.seconds * math.exp(-case.policy.margin(target.metric))


def _surely_broken(case: Case, target: LatencyTarget) -> bool:
    """By whole buckets, beyond what pods alike differ by, more than allowed and more than stable beside it."""
    bounds = case.history.histograms[target.metric].bounds
    edges = bounds[bounds >= target.seconds * math.exp(case.slack(target.metric))]
    if not edges.size or math.isinf(edges[0]):
        return False
    ours, theirs = case.shares_above(target.metric, float(edges[0]))
    seen = np.isfinite(ours)
    beside = np.nan_to_num(theirs[seen], nan=case.share_before(f"{target.name}.shareAbove"))
    return capital(ours[seen], np.maximum(target.allowed_share, beside), spared=NODE_EVENT) > _BAD_FROM


def _share_above(bounds: Floats, below: Floats, threshold: float) -> float:
    """Interpolated inside the bucket of the threshold, as PromQL's `histogram_quantile` does; NaN when empty."""
    finite = np.isfinite(bounds)
    if not finite.any() or threshold > bounds[finite][-1]:
        return float(1 - below[finite][-1]) if finite.any() else math.nan
    return float(1 - np.interp(threshold, np.append(0.0, bounds[finite]), np.append(0.0, below[finite])))

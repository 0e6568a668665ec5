"""Does the canary fail more requests than stable in the same intervals, or than its objective allows?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import ERRORS, Flags, Floats
from trimtab.judge.sequential.betting import capital
from trimtab.judge.sequential.case import Case
from trimtab.judge.statistics import wilson
from trimtab.judge.words import bad, good, percent, unknown
from trimtab.model.reason import Reason
from trimtab.model.verdict import Verdict

_BAD_FROM = math.log(500)  # of capital: one in five hundred by Ville's inequality
# (errors, share of requests) within one interval, at least one of the pairs, and several times stable's share.
_BURSTS = ((4.0, 0.5), (6.0, 0.3), (10.0, 0.15))
_TIMES_STABLE = 3.0
_GOOD_WITHIN = 0.02  # of requests, more than stable's, by the upper bound
# Where no more failed than stable's, some fifty requests must do: by one-sided 95 %, without what only errors show.
_GOOD_WITHOUT_ERRORS, _ONE_SIDED = 0.05, 1.645
_DISPERSION, _ERRORS = 1.5, 2.0


def error_burst(case: Case) -> Iterator[Verdict]:
    """Bad within one interval; no warm-up is granted to errors."""
    found = _failed(case)
    if found is None or not case.history.looks:
        return
    (ours, our_count), (theirs, their_count) = found
    errors, count = float(ours[-1]), float(our_count[-1])
    usual = float(theirs[-1] / their_count[-1]) if their_count[-1] > 0 else case.share_before("errorShare")
    share = errors / count if count > 0 else 0.0
    if any(errors >= least and share >= portion for least, portion in _BURSTS) and share > _TIMES_STABLE * usual:
        message = f"{errors:.0f} of {count:.0f} requests failed in one interval ({percent(share)})"
        evidence = {"canary.errorShare": share, "stable.errorShare": usual}
        yield bad(Reason.WORSE_THAN_STABLE, f"{message}; stable {percent(usual)}.", evidence)


def error_share(case: Case) -> Iterator[Verdict]:
    found = _failed(case)
    if found is None:
        return
    (ours, our_count), (theirs, their_count) = found
    errors, count = float(ours.sum()), float(our_count.sum())
    if count <= 0:
        return
    share = errors / count
    usual = float(theirs.sum() / their_count.sum()) if their_count.sum() > 0 else case.share_before("errorShare")
    evidence = {"canary.errorShare": share, "stable.errorShare": usual}
    numbers = f"{errors:.0f} errors in {count:.0f} requests ({percent(share)}), stable {percent(usual)}"
    served = our_count > 0
    seen = ours[served] / our_count[served]
    with np.errstate(all="ignore"):
        beside = np.where(their_count > 0, theirs / their_count, usual)[served]
    if capital(seen, beside + case.policy.error_margin) > _BAD_FROM:
        yield bad(Reason.WORSE_THAN_STABLE, f"{numbers}; more than chance allows.", evidence)
        return
    objective = case.policy.slo.max_error_share
    if objective is not None:
        evidence["errors.allowedShare"] = objective
        if capital(seen, np.maximum(beside, objective)) > _BAD_FROM:
            yield bad(Reason.SLO_REGRESSION, f"{numbers}; the objective is {percent(objective)}.", evidence)
            return
    upper = wilson(share, count, _DISPERSION, _ERRORS)[1]
    few = share <= usual and wilson(share, count, 1.0, _ONE_SIDED)[1] <= usual + _GOOD_WITHOUT_ERRORS
    if (upper > usual + _GOOD_WITHIN and not few) or (objective is not None and share > max(objective, usual)):
        yield unknown(Reason.TOO_FEW_SAMPLES, f"{numbers}; up to {percent(upper)} is possible.", evidence)
    else:
        yield good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)


_Counts = tuple[Floats, Floats]


def _failed(case: Case) -> tuple[_Counts, _Counts] | None:
    """(errors, requests) per interval (K) of the canary and of stable; None when errors are not counted."""
    history = case.history
    errors = history.counters.get(ERRORS)
    if errors is None or not np.isfinite(errors[:, history.canary]).any():
        return None
    requests = history.requests()
    known = np.isfinite(errors) & np.isfinite(requests)
    failed = np.where(known, errors, 0.0)
    count = np.where(known, np.maximum(requests, errors), 0.0)

    def side(members: Flags) -> _Counts:
        return failed[:, members].sum(axis=1), count[:, members].sum(axis=1)

    return side(history.canary), side(history.stable)

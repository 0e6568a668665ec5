"""Has the canary served long enough, and under the load that stable carries?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from trimtab.judge.sequential.case import Case
from trimtab.judge.words import good, unknown
from trimtab.model.reason import Reason
from trimtab.model.verdict import Verdict

GOOD_FROM = 12  # intervals that count: fewer, and a node's bad minute is most of what has been seen
COMPARED_FROM = 8  # of these, in which stable is a yardstick
_ACTIVE = 0.8  # of them must have traffic
_RECENT = 2  # intervals, of which one must have traffic: what has stopped serving is not good
_UNEQUAL = math.log(1.25)


def enough_evidence(case: Case) -> Iterator[Verdict]:
    served = np.flatnonzero(case.canary_requests > 0)
    count = float(case.canary_requests.sum())
    evidence = {"canary.requests": count, "stable.requests": float(case.stable_requests.sum())}
    if not served.size:
        yield unknown(Reason.NO_TRAFFIC, "The canary has finished no request yet.", evidence)
        return
    ours, theirs = ((counts[-_RECENT:] > 0).any() for counts in (case.canary_requests, case.stable_requests))
    if not ours or not (theirs or case.alone):
        side = "stable has" if ours else "the canary has"
        yield unknown(Reason.NO_TRAFFIC, f"Traffic has stopped: {side} finished no request of late.", evidence)
        return
    seen = (case.settled[:, case.history.canary]).any(axis=1)
    active = seen & (case.canary_requests > 0)
    evidence["intervals"] = float(active.sum())
    since = int(seen.sum())
    needed = case.policy.minimum_requests
    if case.policy.watching:
        yield good(Reason.WITHIN_SLO, f"{count:.0f} requests since the promotion.", evidence)
    elif active.sum() < GOOD_FROM or count < needed:
        message = (
            f"{int(active.sum())} of {GOOD_FROM} intervals and {count:.0f} of {needed} requests that a promotion needs."
        )
        yield unknown(Reason.TOO_FEW_SAMPLES, message, evidence)
    elif active.sum() < _ACTIVE * since:
        message = f"The canary finished requests in {int(active.sum())} of {since} intervals only."
        yield unknown(Reason.TOO_FEW_SAMPLES, message, evidence)
    else:
        yield good(Reason.WITHIN_SLO, f"{count:.0f} requests in {int(active.sum())} intervals.", evidence)


def comparable_load(case: Case) -> Iterator[Verdict]:
    """Unknown where the canary carries so much less that its latencies flatter it; more load cannot flatter.

    A first share of the traffic is meant to be small: what it shows is that the canary may have the next one.
    """
    if unequal(case) < 0 and not case.policy.meant_smaller:
        message = f"The canary finished {case.load.ratio:.2f} times stable's requests per pod: not comparable."
        yield unknown(Reason.UNEQUAL_LOAD, message, {"loadRatio": case.load.ratio})


def unequal(case: Case) -> int:
    """1 where the canary surely carries over 25 % more than stable, -1 where as much less, else 0."""
    load = case.load
    if abs(load.logarithm) - load.error <= _UNEQUAL:
        return 0
    return 1 if load.logarithm > 0 else -1

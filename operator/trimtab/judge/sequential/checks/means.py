"""Is the canary slower than stable by more than its margin, in the mean?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from trimtab.judge.sequential.bounds import half_width, narrower_half_width, normal_quantile
from trimtab.judge.sequential.case import Case
from trimtab.judge.sequential.checks.traffic import COMPARED_FROM, unequal
from trimtab.judge.sequential.means import Means
from trimtab.judge.sequential.policy import LABEL
from trimtab.judge.words import bad, good, unknown
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency
from trimtab.model.verdict import Verdict

BAD_FROM = 6  # intervals from the first usable one on: without a node's bad minute one is left
# The error of calling two pods alike Bad over all looks: by what the other latency leaves unexplained, and by itself.
_ALPHAS = {Latency.ITL: (0.0015, 0.0002), Latency.TTFT: (0.0005, 0.0002), Latency.E2E: (0.0002, 0.0001)}
# What is left without the worst run need not prove it all again: only that the run was not the whole of it.
_FILTERED_ALPHA, _FILTERED_MARGIN = 0.02, 0.8
_NOISE_ALPHA = 0.05  # of a Good canary being worse than it seems


def mean_latencies(case: Case) -> Iterator[Verdict]:
    for latency in Latency:
        means = case.means(latency)
        if means is not None and not case.policy.traded(latency):
            yield _judged(case, latency, means)


def _judged(case: Case, latency: Latency, means: Means) -> Verdict:
    difference, information = means.estimate()
    ratio, margin = math.exp(difference), case.policy.margin(latency)
    label = LABEL[latency]
    evidence = {
        f"{latency.value}.ratio": ratio,
        f"{latency.value}.halfWidth": narrower_half_width(information, _NOISE_ALPHA),
        f"{latency.value}.podSpread": case.spread(latency).tau,
    }
    numbers = f"{label} is {ratio:.3f} times stable's over {means.looks} intervals"
    if _surely_worse(case, latency, means):
        if unequal(case) > 0:
            message = f"{numbers}, but the canary carries {case.load.ratio:.2f} times stable's load."
            return unknown(Reason.UNEQUAL_LOAD, message, evidence | {"loadRatio": case.load.ratio})
        return bad(Reason.WORSE_THAN_STABLE, f"{numbers}; pods alike do not differ as much.", evidence)
    if means.looks >= COMPARED_FROM and _surely_no_worse(case, latency, means):
        return good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)
    message = f"{numbers}; whether it is within {math.expm1(margin):.0%} cannot be told yet."
    return unknown(Reason.TOO_FEW_SAMPLES, message, evidence)


def _surely_worse(case: Case, latency: Latency, means: Means) -> bool:
    """With everything that was seen, and without the run of intervals that a node event may explain."""
    if means.place[-1] - means.place[0] + 1 < BAD_FROM:
        return False
    if not _beyond(case, latency, *means.estimate(), _ALPHAS[latency], case.policy.margin(latency)):
        return False
    alphas, margin = (_FILTERED_ALPHA, _FILTERED_ALPHA), _FILTERED_MARGIN * case.policy.margin(latency)
    return _beyond(case, latency, *means.without_run(1.0), alphas, margin)


def _beyond(
    case: Case, latency: Latency, difference: float, information: float, alphas: tuple[float, float], margin: float
) -> bool:
    """Worse than pods alike are, and by more than the margin as far as one can estimate."""
    left = difference - case.load_effect(latency)
    if information <= 0 or left <= margin:
        return False
    spread, (paired, alone) = case.spread(latency), alphas
    if spread.tail(left, alone, _noise(case, latency, information, alone)) < alone:
        return True
    other = case.other(latency)
    if other is None or left - spread.explained(other) <= margin:
        return False
    return spread.tail(left, paired, _noise(case, latency, information, paired), other) < paired


def _noise(case: Case, latency: Latency, information: float, alpha: float) -> float:
    """Half width from the intervals, and from not knowing the canary's load."""
    load = case.elasticity(latency) * case.load.error * normal_quantile(alpha)
    return math.hypot(half_width(information, alpha), load)


def _surely_no_worse(case: Case, latency: Latency, means: Means) -> bool:
    """Within the margin but for noise, and within twice the margin granted what pods alike differ by.

    One stable pod says nothing about that: then what the prior grants comes on top of the margin, or no canary beside
    one pod would ever be Good. A bad minute of stable's must not be what makes the canary look no worse.
    """
    margin = case.policy.margin(latency)
    flattered = 0.0 if case.policy.meant_smaller else case.elasticity(latency) * case.load.lighter
    _, floor = case.floors(latency)
    most = 2 * margin if len(means.effects) > 1 else margin + max(margin, floor)
    difference, information = means.estimate()
    width = narrower_half_width(information, _NOISE_ALPHA)
    unflattered, left = means.without_run(-1.0)
    if left <= 0 or unflattered + flattered >= margin:
        return False
    difference += flattered
    return difference + width < margin and difference + math.hypot(floor, width) < most

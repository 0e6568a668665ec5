"""Is the canary grossly slower than stable in the same window, by the mean and at the tail?"""

from __future__ import annotations

import math

from trimtab.judge.assessments.objectives import samples
from trimtab.judge.load import compared, tempered
from trimtab.judge.request import LABEL, TRADED, JudgeRequest, Margin, histogram
from trimtab.judge.statistics import FEWEST, OVERDISPERSION, STANDARD_ERRORS, relative_variance, share_bounds
from trimtab.judge.words import bad, duration, good, percent, unknown, unreadable
from trimtab.model.histogram import Histogram
from trimtab.model.reading import Reading, Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency
from trimtab.model.verdict import Verdict, worst

_TAIL = 0.95
# The least relative variance of one request, by latency: histograms whose observations share a bucket show none.
_LEAST_VARIANCE = {Latency.TTFT: 0.30, Latency.ITL: 0.03, Latency.E2E: 0.30}


def against_stable(request: JudgeRequest) -> tuple[Verdict, ...]:
    """One verdict for each latency that is neither traded nor missing; none at all while stable cannot be read."""
    load, ratio = compared(request)
    verdicts = [_one(request, latency) for latency in Latency if TRADED[latency] not in request.trades]
    found = tuple(tempered(verdict, load, ratio) for verdict in verdicts if verdict is not None)
    if found or not request.slo.is_empty or request.watching:
        return found
    message = "There is no objective, and no latency of stable to compare with."
    return (unknown(Reason.STABLE_UNREADABLE, message),)


def _one(request: JudgeRequest, latency: Latency) -> Verdict | None:
    canary, stable = histogram(request.canary, latency), histogram(request.stable, latency)
    if isinstance(stable, Unknown) or stable.value.count <= 0:
        return None
    if isinstance(canary, Unknown):
        return None if _absent(canary) else unreadable(f"The canary's {LABEL[latency]}", canary)
    ours = samples(request.canary, latency, canary.value, request.elapsed)
    theirs = samples(request.stable, latency, stable.value, request.elapsed)
    if canary.value.count <= 0 or ours <= 0 or theirs <= 0:
        return unknown(Reason.NO_TRAFFIC, f"{LABEL[latency]}: no finished request to compare yet.")
    margin = request.margins.latency[latency]
    means = _means(latency, margin, canary.value, stable.value, (ours, theirs))
    return worst((means, _tails(request, latency, canary.value, stable.value, (ours, theirs))))


def _absent(reading: Reading[Histogram]) -> bool:
    return isinstance(reading, Unknown) and reading.why is Why.NOT_EXPORTED


def _means(
    latency: Latency, margin: Margin, canary: Histogram, stable: Histogram, counts: tuple[float, float]
) -> Verdict:
    label, ours, theirs = LABEL[latency], counts[0], counts[1]
    evidence = {f"canary.{latency.value}.mean": canary.mean, f"stable.{latency.value}.mean": stable.mean}
    numbers = f"{label} mean {duration(canary.mean)}, stable {duration(stable.mean)}"
    if not (canary.mean > 0 and stable.mean > 0):
        return unknown(Reason.TOO_FEW_SAMPLES, f"{numbers}: not comparable.")
    ratio = canary.mean / stable.mean
    numbers += f" ({ratio:.2f} times, {ours:.0f} and {theirs:.0f} requests)"
    least = _LEAST_VARIANCE[latency]
    variance = max(least, relative_variance(canary)) / ours + max(least, relative_variance(stable)) / theirs
    noise = STANDARD_ERRORS * math.sqrt(OVERDISPERSION * variance)
    if min(ours, theirs) >= FEWEST and math.log(ratio) - noise > math.log(margin.bad):
        return bad(Reason.WORSE_THAN_STABLE, f"{numbers}; worse by any doubt.", evidence)
    if ratio > margin.good:
        return unknown(Reason.TOO_FEW_SAMPLES, f"{numbers}; up to {margin.good:g} times is no worse.", evidence)
    return good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)


def _tails(
    request: JudgeRequest, latency: Latency, canary: Histogram, stable: Histogram, counts: tuple[float, float]
) -> Verdict:
    """The canary's share beyond an edge that stable rarely passes: its p95, the good margin, and up to a whole bucket.

    The edge is on a bound so that nothing is interpolated, and beyond the steep part of the distribution, where a pod
    that is a few per cent slower would double its share.
    """
    label, ours = LABEL[latency], counts[0]
    edge = stable.quantile(_TAIL) * request.margins.latency[latency].good
    edge = next((bound for bound in canary.bounds if bound >= edge), math.inf)
    if math.isinf(edge):
        return good(Reason.NOT_WORSE_THAN_STABLE, f"{label} tail: stable's is beyond the last bucket.")
    share, usual = canary.share_above(edge), stable.share_above(edge)
    evidence = {f"canary.{latency.value}.tailShare": share, f"stable.{latency.value}.tailShare": usual}
    numbers = f"{label} above {duration(edge)}: {percent(share)} of {ours:.0f} requests, stable {percent(usual)}"
    highest = max(request.margins.tail_bad_share, 3 * usual)
    if min(counts) >= FEWEST and share_bounds(share, ours)[0] > highest:
        return bad(Reason.WORSE_THAN_STABLE, f"{numbers}; worse by any doubt.", evidence)
    if share > max(request.margins.tail_good_share, 2 * usual):
        return unknown(Reason.TOO_FEW_SAMPLES, f"{numbers}; too close to call.", evidence)
    return good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)

"""Does the canary keep the latency objectives, or break them no more than stable does in the same window?"""

from __future__ import annotations

from trimtab.judge.request import LABEL, TRADED, JudgeRequest, histogram, requests
from trimtab.judge.statistics import FEWEST, share_bounds, share_surely_above
from trimtab.judge.words import bad, duration, good, percent, unknown, unreadable
from trimtab.model.histogram import Histogram
from trimtab.model.reading import Known, Unknown
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget
from trimtab.model.snapshot import RevisionView
from trimtab.model.verdict import Verdict


def latency_objectives(request: JudgeRequest) -> tuple[Verdict, ...]:
    return tuple(_one(request, target) for target in request.slo.latencies)


def samples(view: RevisionView, latency: Latency, seen: Histogram, elapsed: float) -> float:
    """The requests behind a histogram. A token is not a sample: the tokens of one request stand and fall together."""
    if latency is not Latency.ITL:
        return seen.count
    count = requests(view, elapsed)
    return min(seen.count, count.value) if isinstance(count, Known) else 0.0


def _one(request: JudgeRequest, target: LatencyTarget) -> Verdict:
    what, allowed = f"{LABEL[target.metric]} p{target.percentile}", target.allowed_share
    reading = histogram(request.canary, target.metric)
    if isinstance(reading, Unknown):
        return unreadable(f"The canary's {what}", reading)
    seen = reading.value
    count = samples(request.canary, target.metric, seen, request.elapsed)
    if count <= 0 or seen.count <= 0:
        return unknown(Reason.NO_TRAFFIC, f"{what}: no finished request to judge by yet.")
    share = seen.share_above(target.seconds)
    evidence = {f"canary.{target.name}.shareAbove": share, f"{target.name}.allowedShare": allowed}
    numbers = (
        f"{what} objective {duration(target.seconds)}: {percent(share)} of {count:.0f} requests above it,"
        f" {percent(allowed)} allowed."
    )
    broken = _stable_breaks(request, target)
    if broken is not None:
        evidence[_share_key(target)], evidence[_count_key(target)] = broken
        return _no_worse(numbers, share, count, broken, evidence)
    if count >= FEWEST and _surely_broken(seen, target, count):
        return bad(Reason.SLO_REGRESSION, numbers, evidence)
    if share > allowed:
        return unknown(Reason.TOO_FEW_SAMPLES, f"{numbers} Too close to call.", evidence)
    if TRADED[target.metric] in request.trades:
        tight = target.seconds * request.margins.traded_headroom
        if seen.share_above(tight) > allowed:
            message = f"{numbers} It is traded and needs headroom: {duration(tight)} is not kept."
            return unknown(Reason.TOO_FEW_SAMPLES, message, evidence)
    return good(Reason.WITHIN_SLO, numbers, evidence)


def _surely_broken(seen: Histogram, target: LatencyTarget, count: float) -> bool:
    """Broken beyond doubt: by whole buckets, or by the interpolated share where the mean itself is beyond."""
    if share_bounds(share_surely_above(seen, target.seconds), count)[0] > target.allowed_share:
        return True
    return (
        seen.mean > target.seconds and share_bounds(seen.share_above(target.seconds), count)[0] > target.allowed_share
    )


def _stable_breaks(request: JudgeRequest, target: LatencyTarget) -> tuple[float, float] | None:
    """Stable's share above the threshold and its requests, when stable breaks the same objective; else None."""
    reading = histogram(request.stable, target.metric)
    if isinstance(reading, Unknown) or reading.value.count <= 0:
        return _broke_before(request, target)
    count = samples(request.stable, target.metric, reading.value, request.elapsed)
    share = reading.value.share_above(target.seconds)
    return (share, count) if count >= FEWEST and share > target.allowed_share else None


def _broke_before(request: JudgeRequest, target: LatencyTarget) -> tuple[float, float] | None:
    """What the verdict that promoted had measured of stable, when it broke this objective."""
    share, count = request.before.get(_share_key(target)), request.before.get(_count_key(target))
    return None if share is None or count is None else (share, count)


def _share_key(target: LatencyTarget) -> str:
    return f"stable.{target.name}.shareAbove"


def _count_key(target: LatencyTarget) -> str:
    return f"stable.{target.name}.requests"


def _no_worse(
    numbers: str, share: float, count: float, stable: tuple[float, float], evidence: dict[str, float]
) -> Verdict:
    """Stable breaks the objective as well: the canary is Bad only when it breaks it more."""
    stable_share, stable_count = stable
    compared = f"{numbers} Stable breaks it too, with {percent(stable_share)} of {stable_count:.0f}."
    if count >= FEWEST and share_bounds(share, count)[0] > share_bounds(stable_share, stable_count)[1]:
        return bad(Reason.SLO_REGRESSION, compared, evidence)
    if share > stable_share + 0.05:
        return unknown(Reason.TOO_FEW_SAMPLES, f"{compared} Too close to call.", evidence)
    return good(Reason.NOT_WORSE_THAN_STABLE, compared, evidence)

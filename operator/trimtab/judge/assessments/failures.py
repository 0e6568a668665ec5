"""Does the canary answer with more errors than its objective allows, or than stable in the same window?"""

from __future__ import annotations

from trimtab.judge.request import JudgeRequest, errors, requests
from trimtab.judge.statistics import share_bounds
from trimtab.judge.words import bad, good, percent, unknown, unreadable
from trimtab.model.reading import Known, Unknown
from trimtab.model.reason import Reason
from trimtab.model.snapshot import RevisionView
from trimtab.model.verdict import Verdict

_FEWEST = 5.0  # requests: an error is a plainer sign than a slow answer


def error_share(request: JudgeRequest) -> Verdict | None:
    """Bad by the objective, or by the difference from stable; errors are judged by both, also when latencies trade."""
    failed = errors(request.canary, request.elapsed)
    if isinstance(failed, Unknown):
        return unreadable("The canary's error count", failed)
    ended = requests(request.canary, request.elapsed)
    if isinstance(ended, Unknown):
        return unreadable("The canary's request count", ended)
    count = max(ended.value, failed.value)
    if count <= 0:
        return unknown(Reason.NO_TRAFFIC, "No finished request whose errors could be counted yet.")
    share = failed.value / count
    lower, _ = share_bounds(share, count)
    stable = _stable_share(request.stable, request.elapsed) or _before(request)
    evidence = {"canary.errorShare": share}
    numbers = f"{failed.value:.0f} errors in {count:.0f} requests ({percent(share)})"
    if stable is not None:
        evidence["stable.errorShare"], evidence["stable.requests"] = stable
        numbers += f", stable {percent(stable[0])} of {stable[1]:.0f}"
    if count >= _FEWEST and (because := _too_many(request, lower, stable)) is not None:
        return bad(because[0], f"{numbers}; {because[1]}.", evidence)
    return _tolerable(request, share, stable, numbers, evidence)


def _too_many(request: JudgeRequest, lower: float, stable: tuple[float, float] | None) -> tuple[Reason, str] | None:
    """Why the share is too high even at its lower bound; None when it may not be."""
    objective = request.slo.max_error_share
    if objective is not None:
        breaks = stable is not None and stable[1] >= _FEWEST and stable[0] > objective
        # Where stable breaks the objective as well, only more errors than stable's count against the canary.
        limit = share_bounds(*stable)[1] if stable is not None and breaks else objective
        if lower > limit:
            return Reason.SLO_REGRESSION, f"the objective is {percent(objective)}"
    highest = _highest(request, stable)
    if highest is not None and lower > highest:
        return Reason.WORSE_THAN_STABLE, "more than the comparison allows by any doubt"
    return None


def _highest(request: JudgeRequest, stable: tuple[float, float] | None) -> float | None:
    """The error share that the canary may have by comparison, noise included; None when there is no yardstick."""
    if stable is not None and stable[1] > 0:
        return share_bounds(*stable)[1] + request.margins.error_share
    return request.margins.errors_without_reference if request.slo.max_error_share is None else None


def _tolerable(
    request: JudgeRequest,
    share: float,
    stable: tuple[float, float] | None,
    numbers: str,
    evidence: dict[str, float],
) -> Verdict:
    allowed = request.slo.max_error_share
    if allowed is None:
        allowed = 2 * request.margins.error_share
    if stable is not None:
        allowed = max(allowed, stable[0] + request.margins.error_share)
    if share > allowed:
        return unknown(Reason.TOO_FEW_SAMPLES, f"{numbers}; too close to call.", evidence)
    return good(Reason.WITHIN_SLO, f"{numbers}.", evidence)


def _before(request: JudgeRequest) -> tuple[float, float] | None:
    """What the verdict that promoted had measured of stable."""
    share, count = request.before.get("stable.errorShare"), request.before.get("stable.requests")
    return None if share is None or count is None else (share, count)


def _stable_share(view: RevisionView, elapsed: float) -> tuple[float, float] | None:
    failed, ended = errors(view, elapsed), requests(view, elapsed)
    if not isinstance(failed, Known) or not isinstance(ended, Known):
        return None
    count = max(ended.value, failed.value)
    return (failed.value / count, count) if count > 0 else None

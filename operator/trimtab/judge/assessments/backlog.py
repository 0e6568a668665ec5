"""Do requests pile up on the canary? Latency histograms count only requests that got that far.

By Little's law a request that arrives now waits about waiting / throughput seconds for its turn.
"""

from __future__ import annotations

from trimtab.judge.request import JudgeRequest, histogram, requests
from trimtab.judge.statistics import FEWEST
from trimtab.judge.words import bad, duration, good, unreadable
from trimtab.model.reading import Known, Unknown, Why, value_or
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency
from trimtab.model.snapshot import RevisionView
from trimtab.model.verdict import Verdict

_LEAST_WAITING = 4.0  # requests per pod: below, a queue is a moment's chance
_FAR_ABOVE = 2.0  # times stable's wait
_BEYOND_OBJECTIVE = 1.5  # times the objective: an estimate must be further beyond than a measurement
_STUCK_AFTER = 3.0  # times stable's mean end-to-end latency
_EXPECTED = 10.0  # requests that should have ended


def queued_requests(request: JudgeRequest) -> Verdict | None:
    waiting = request.canary.summed(lambda metrics: metrics.waiting)
    if isinstance(waiting, Unknown):
        return None if waiting.why is Why.NOT_EXPORTED else unreadable("The canary's queue", waiting)
    pods = max(1, len(request.canary.ready_pods))
    wait, stable_wait = _wait(request.canary, request.elapsed), _wait(request.stable, request.elapsed)
    if stable_wait is None:
        stable_wait = request.before.get("stable.expectedWait")
    if wait is None:
        return None  # the assessment of traffic says why
    evidence = {"canary.waiting": waiting.value, "canary.expectedWait": wait}
    numbers = f"{waiting.value:.0f} requests wait on the canary, about {duration(wait)} for each that arrives"
    if stable_wait is not None:
        evidence["stable.expectedWait"] = stable_wait
        numbers += f"; stable {duration(stable_wait)}"
    seen = value_or(requests(request.canary, request.elapsed), 0.0) + waiting.value
    if waiting.value / pods < _LEAST_WAITING or seen < FEWEST:
        return good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)
    limit = _limit(request)
    no_worse = stable_wait is not None and wait <= _FAR_ABOVE * stable_wait
    if no_worse:
        return good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)
    if limit is not None and wait > _BEYOND_OBJECTIVE * limit:
        return bad(Reason.SLO_REGRESSION, f"{numbers}; the objective is {duration(limit)}.", evidence)
    if limit is None and stable_wait is not None and wait > _usual(request):
        return bad(Reason.WORSE_THAN_STABLE, f"{numbers}.", evidence)
    return good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}.", evidence)


def stuck_requests(request: JudgeRequest) -> Verdict | None:
    """Requests run on the canary and none ends, while stable's pods have each finished many."""
    ended, theirs = requests(request.canary, request.elapsed), requests(request.stable, request.elapsed)
    running = request.canary.summed(lambda metrics: metrics.running)
    usual = histogram(request.stable, Latency.E2E)
    if not (isinstance(theirs, Known) and isinstance(running, Known) and isinstance(usual, Known)):
        return None
    if not usual.value.mean > 0 or request.elapsed < _STUCK_AFTER * usual.value.mean or running.value < 1:
        return None
    if isinstance(ended, Unknown) and ended.why is not Why.NO_TRAFFIC:
        return None
    expected = theirs.value * len(request.canary.ready_pods) / max(1, len(request.stable.ready_pods))
    if value_or(ended, 0.0) >= 1 or expected < _EXPECTED:
        return None
    evidence = {"canary.running": running.value, "expectedRequests": expected}
    message = f"{running.value:.0f} requests run on the canary and none has ended in {request.elapsed:.0f} s"
    return bad(Reason.WORSE_THAN_STABLE, f"{message}; stable's pods would have ended {expected:.0f}.", evidence)


def _wait(view: RevisionView, elapsed: float) -> float | None:
    """Little's law: seconds that a request waits, from the queue and the rate at which requests end."""
    waiting, ended = view.summed(lambda metrics: metrics.waiting), requests(view, elapsed)
    if isinstance(waiting, Unknown):
        return None
    if isinstance(ended, Unknown) and ended.why is not Why.NO_TRAFFIC:
        return None
    count = ended.value if isinstance(ended, Known) else 0.0
    window = (ended.window if isinstance(ended, Known) else 0.0) or elapsed
    if waiting.value <= 0 or window <= 0:
        return 0.0
    # With less than one end in the window, the wait is at least as if one had ended.
    return waiting.value * window / max(count, 1.0)


def _limit(request: JudgeRequest) -> float | None:
    """The loosest objective that contains the wait: of TTFT, else end to end."""
    for latency in (Latency.TTFT, Latency.E2E):
        bounds = [target.seconds for target in request.slo.latencies if target.metric is latency]
        if bounds:
            return max(bounds)
    return None


def _usual(request: JudgeRequest) -> float:
    """Stable's mean end-to-end latency: a wait beyond that doubles what a user sees."""
    usual = histogram(request.stable, Latency.E2E)
    return usual.value.mean if isinstance(usual, Known) and usual.value.mean > 0 else 0.0

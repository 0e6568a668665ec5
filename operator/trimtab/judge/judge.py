"""The chain of assessments and the one word that comes out of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trimtab.judge.assessments.backlog import queued_requests, stuck_requests
from trimtab.judge.assessments.comparison import against_stable
from trimtab.judge.assessments.failures import error_share
from trimtab.judge.assessments.objectives import latency_objectives
from trimtab.judge.assessments.throughput import throughput_objective
from trimtab.judge.assessments.traffic import enough_requests
from trimtab.judge.request import JudgeRequest, histogram
from trimtab.judge.words import without_metrics
from trimtab.model.reading import Known, Unknown
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency
from trimtab.model.verdict import Call, Verdict, worst


def judge(request: JudgeRequest) -> Verdict:
    """Bad if any assessment says so, Unknown if any cannot tell, else Good. `evidence` holds what was measured."""
    if isinstance(request.metrics, Unknown):
        return without_metrics(request.metrics)
    verdicts = tuple(_assessed(request))
    word = worst(verdicts)
    if word.call is Call.GOOD:
        reason = Reason.NOT_WORSE_THAN_STABLE if request.slo.is_empty else Reason.WITHIN_SLO
        word = Verdict(Call.GOOD, reason, " ".join(verdict.message for verdict in verdicts[:4]))
    evidence = _measured(request)
    for verdict in verdicts:
        if verdict.call is word.call:
            evidence.update(verdict.evidence)
    finite = {name: value for name, value in evidence.items() if math.isfinite(value)}
    return Verdict(word.call, word.reason, word.message, finite)


def _assessed(request: JudgeRequest) -> Iterator[Verdict]:
    """In the order in which they are told: among equals, the first is the one that a person reads."""
    for single in (enough_requests, error_share):
        yield from _present(single(request))
    yield from latency_objectives(request)
    for single in (queued_requests, stuck_requests, throughput_objective):
        yield from _present(single(request))
    yield from against_stable(request)


def _present(verdict: Verdict | None) -> tuple[Verdict, ...]:
    return () if verdict is None else (verdict,)


def _measured(request: JudgeRequest) -> dict[str, float]:
    """The tails of both revisions, seconds, for the history of attempts."""
    found: dict[str, float] = {}
    for name, view in (("canary", request.canary), ("stable", request.stable)):
        for latency in Latency:
            reading = histogram(view, latency)
            if isinstance(reading, Known) and reading.value.count > 0:
                found[f"{name}.{latency.value}.p95"] = reading.value.quantile(0.95)
    return found

"""Numbers for people, and the three kinds of verdict."""

from __future__ import annotations

from collections.abc import Mapping

from trimtab.model.reading import Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.verdict import Call, Verdict


def good(reason: Reason, message: str, evidence: Mapping[str, float] | None = None) -> Verdict:
    return Verdict(Call.GOOD, reason, message, evidence or {})


def bad(reason: Reason, message: str, evidence: Mapping[str, float] | None = None) -> Verdict:
    return Verdict(Call.BAD, reason, message, evidence or {})


def unknown(reason: Reason, message: str, evidence: Mapping[str, float] | None = None) -> Verdict:
    return Verdict(Call.UNKNOWN, reason, message, evidence or {})


_METRICS: Mapping[Why, Reason] = {
    Why.NOT_SCRAPED: Reason.METRICS_MISSING,
    Why.NOT_EXPORTED: Reason.METRICS_MISSING,
    Why.STALE: Reason.METRICS_STALE,
    Why.NOT_A_NUMBER: Reason.METRICS_INVALID,
    Why.UNREACHABLE: Reason.PROMETHEUS_UNREACHABLE,
    Why.TIMEOUT: Reason.PROMETHEUS_TIMEOUT,
    Why.BAD_ANSWER: Reason.PROMETHEUS_BAD_ANSWER,
    Why.NO_TRAFFIC: Reason.NO_TRAFFIC,
    Why.TOO_FEW_SAMPLES: Reason.TOO_FEW_SAMPLES,
}


def without_metrics(reading: Unknown) -> Verdict:
    """Unknown, because no metric can be read at all: nothing may be decided."""
    words = reading.message or "The metrics cannot be read."
    return unknown(_METRICS[reading.why], f"{words} Nothing is decided without metrics.")


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"

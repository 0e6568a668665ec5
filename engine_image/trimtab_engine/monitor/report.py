"""The report: how well the server served, minute by minute and as a grade, and what would help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trimtab_engine.monitor.measured import Window

# Grade, least share of requests that succeed, longest latency in seconds (None: any).
GRADES: tuple[tuple[str, float, float | None], ...] = (
    ("A+", 0.99, 0.1),
    ("A", 0.95, 0.2),
    ("B", 0.90, 0.5),
    ("C", 0.80, None),
)
WORST = "D"


@dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """The window that the grade is of, the minutes before, what bounds the server now, and how tokens are guessed, as
    the status has it (None: not at all)."""

    window: Window
    history: Sequence[tuple[float, Window]]
    load: float
    kv_usage: float
    waiting: int
    refused_total: int
    speculation: dict[str, Any] | None = None


def grade(*, success: float | None, latency: float | None) -> str | None:
    """The grade by the share of requests that succeed (0 to 1) and a latency in seconds; None without requests.

    The latency is that of the first token where answers are streamed: whole answers take as long as they are long.
    """
    if success is None:
        return None
    for name, least, longest in GRADES:
        if success >= least and (longest is None or (latency is not None and latency <= longest)):
            return name
    return WORST


def _success(window: Window) -> float | None:
    share = window.error_share
    return None if share is None else 1 - share


def latency_of(window: Window) -> tuple[str, float | None]:
    """What the grade goes by, and its p95 in seconds."""
    if window.ttft is not None:
        return "time_to_first_token_p95", window.ttft.p95
    return "latency_p95", window.latency.p95 if window.latency else None


def report(facts: ReportFacts, *, wall: Callable[[float], float]) -> dict[str, Any]:
    """The report as JSON. `wall` makes seconds since the epoch of the monitor's clock."""
    basis, latency = latency_of(facts.window)
    return {
        "grade": grade(success=_success(facts.window), latency=latency),
        "graded_by": basis,
        "load": facts.load,
        "window": facts.window.as_json(),
        "speculation": facts.speculation,
        "history": [_minute(wall(since), window) for since, window in facts.history],
        "recommendations": recommendations(facts),
    }


def _minute(since: float, window: Window) -> dict[str, Any]:
    stamp = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
    success, (_, latency) = _success(window), latency_of(window)
    return {"since": stamp, "grade": grade(success=success, latency=latency), **window.as_json()}


def recommendations(facts: ReportFacts) -> list[str]:
    """Sentences for a person, each with its numbers; empty where nothing stands out."""
    return [sentence for check in _CHECKS if (sentence := check(facts))]


def _errors(facts: ReportFacts) -> str | None:
    share = facts.window.error_share
    if share is None or share <= 0.01:
        return None
    return f"{100 * share:.1f} % of the requests failed or timed out: look at the engine's log."


def _cache(facts: ReportFacts) -> str | None:
    if facts.kv_usage < 0.9:
        return None
    return (
        f"The KV cache is {100 * facts.kv_usage:.0f} % full: lower limits.max_running_requests, or give it more memory"
        " or a smaller data type."
    )


def _queue(facts: ReportFacts) -> str | None:
    if facts.waiting == 0 or facts.load < 0.75 or facts.kv_usage >= 0.9:
        return None
    return (
        f"{facts.waiting} requests wait at a load of {facts.load:.2f}: raise limits.max_running_requests where the time"
        " between tokens allows it, or add a replica."
    )


def _refused(facts: ReportFacts) -> str | None:
    if not facts.refused_total:
        return None
    return f"{facts.refused_total} requests were refused in the window: the capacity is reached."


def _guesses(facts: ReportFacts) -> str | None:
    known = facts.speculation
    if known is None:
        return None
    if not known["on"]:
        return f"{known['message']} Set speculation.method to off, or choose another draft."
    rate, tokens = known["window"]["acceptance_rate"], known["window"]["guessed_tokens"]
    if rate is None or rate >= 0.5:
        return None
    return (
        f"{100 * rate:.0f} % of {tokens} guessed tokens were right: lower speculation.tokens, or choose another draft."
    )


_CHECKS = (_errors, _cache, _queue, _refused, _guesses)

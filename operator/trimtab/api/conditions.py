"""Conditions as the API conventions want them: one per type, and a transition time that only a transition moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from trimtab.api.instants import to_rfc3339
from trimtab.model.reason import Reason

MESSAGE_LIMIT = 4096


class ConditionType(StrEnum):
    """The conditions of an LLMDeployment. `Ready` sums the others up."""

    READY = "Ready"
    METRICS_AVAILABLE = "MetricsAvailable"
    SLO_SATISFIED = "SLOSatisfied"
    PROGRESSING = "Progressing"
    PLANNED = "Planned"
    TARGET_RESOLVED = "TargetResolved"
    ROUTE_READY = "RouteReady"


def status_text(value: bool | None) -> str:
    """True, False, and None as the three values of a condition."""
    return "Unknown" if value is None else str(value)


def cut(text: str, limit: int) -> str:
    """`text`, ended by an ellipsis where it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def set_condition(
    conditions: Iterable[Mapping[str, Any]],
    kind: str,
    *,
    status: bool | None,
    reason: Reason | str,
    message: str,
    generation: int,
    now: float,
) -> list[dict[str, Any]]:
    """The conditions with one of them set, sorted by type; the given ones are left as they are.

    `lastTransitionTime` is `now` (seconds since the epoch) when the status differs from before, or the type is new.
    """
    kept = {str(item["type"]): dict(item) for item in conditions if "type" in item}
    before = kept.get(str(kind), {})
    text = status_text(status)
    same = before.get("status") == text and bool(before.get("lastTransitionTime"))
    kept[str(kind)] = {
        "type": str(kind),
        "status": text,
        "reason": str(reason),
        "message": cut(message, MESSAGE_LIMIT),
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if same else to_rfc3339(float(int(now))),
    }
    return [kept[name] for name in sorted(kept)]


def find_condition(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """The condition of this type, or None."""
    return next((item for item in conditions if item.get("type") == str(kind)), None)

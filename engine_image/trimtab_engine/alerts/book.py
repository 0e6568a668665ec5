"""Which alerts are raised, and when somebody is told: what lasts, grouped, in limited numbers, and when it is over.

Findings of one look make one message. A message waits where too many were sent (token bucket); what it says is then the
state at the time it leaves, so nothing is lost by waiting and a storm becomes one message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from trimtab_engine.alerts.detect import Finding, Severity


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Seconds, and messages per minute; see `config.observing.AlertsConfig`."""

    pending_seconds: float
    resolve_seconds: float
    repeat_seconds: float
    messages_per_minute: float


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert: when it began and was last found, whether it is told, and when it was over (None: it is not)."""

    name: str
    severity: Severity
    message: str
    since: float
    seen: float
    raised: bool = False
    over: float | None = None


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is to be told: everything that is raised, and what is over since the last message."""

    firing: tuple[Alert, ...]
    resolved: tuple[Alert, ...]


class Book:
    """`look` with the findings of each look."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._alerts: dict[str, Alert] = {}
        self._resolved: dict[str, Alert] = {}
        self._news = False
        self._told_at: float | None = None
        self._bucket = max(1.0, rules.messages_per_minute)
        self._filled_at: float | None = None

    @property
    def firing(self) -> tuple[Alert, ...]:
        return tuple(alert for alert in self._alerts.values() if alert.raised)

    def look(self, findings: Iterable[Finding], now: float) -> Message | None:
        """What is to be told now."""
        self._take(findings, now)
        self._let_go(now)
        due = bool(self.firing) and self._told_at is not None and now - self._told_at >= self._rules.repeat_seconds
        if not (self._news or due) or not self._allowed(now):
            return None
        message = Message(firing=self.firing, resolved=tuple(self._resolved.values()))
        self._news, self._told_at, self._resolved = False, now, {}
        return message

    def _take(self, findings: Iterable[Finding], now: float) -> None:
        for finding in findings:
            alert = self._alerts.get(finding.name)
            if alert is None:
                alert = Alert(
                    name=finding.name, severity=finding.severity, message=finding.message, since=now, seen=now
                )
            worse = alert.raised and finding.severity != alert.severity
            raised = alert.raised or now - alert.since >= self._rules.pending_seconds
            self._news |= worse or (raised and not alert.raised)
            if raised:
                self._resolved.pop(finding.name, None)
            self._alerts[finding.name] = replace(
                alert, severity=finding.severity, message=finding.message, seen=now, raised=raised
            )

    def _let_go(self, now: float) -> None:
        for alert in list(self._alerts.values()):
            gone = now - alert.seen
            if alert.seen == now or gone < (self._rules.resolve_seconds if alert.raised else 0):
                continue
            del self._alerts[alert.name]
            if alert.raised:
                self._resolved[alert.name] = replace(alert, over=now)
                self._news = True

    def _allowed(self, now: float) -> bool:
        """A token bucket that holds a minute's messages."""
        passed = now - self._filled_at if self._filled_at is not None else 0.0
        rate = self._rules.messages_per_minute
        self._bucket = min(max(1.0, rate), self._bucket + passed * rate / 60)
        self._filled_at = now
        if self._bucket < 1:
            return False
        self._bucket -= 1
        return True

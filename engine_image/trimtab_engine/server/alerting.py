"""Looks for what is out of the ordinary and tells the log and the receivers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab_engine.alerts.book import Alert, Book, Message, Rules
from trimtab_engine.alerts.detect import Levels, Reading, Thresholds, over_thresholds, unwell_gpus
from trimtab_engine.config.observing import AlertsConfig
from trimtab_engine.server.delivery import (
    Receiver,
    close_all,
    for_alertmanager,
    for_webhook,
    source_labels,
    to_log,
)
from trimtab_engine.server.request_metrics import RequestMetrics
from trimtab_engine.shared.leader import Leader


@dataclass(frozen=True, kw_only=True)
class _Route:
    """A receiver, and how its documents are made."""

    receiver: Receiver
    document: Callable[[Message], Any]


class Alerting:
    """`look` about once a second. With several API servers each looks at its own requests, and one tells."""

    def __init__(self, config: AlertsConfig, *, metrics: RequestMetrics, folder: Path) -> None:
        self._config = config
        self._metrics = metrics
        self._leader = Leader(folder, "alerts")
        self._thresholds = Thresholds(
            error_percent=config.error_percent,
            ttft_p95_seconds=config.ttft_p95_seconds,
            latency_p95_seconds=config.latency_p95_seconds,
            kv_usage_percent=config.kv_usage_percent,
            least_tokens_per_second=config.least_tokens_per_second,
            effect_percent=config.effect_percent,
        )
        self._levels = Levels() if config.changes else None
        self._book = Book(
            Rules(
                pending_seconds=config.pending_seconds,
                resolve_seconds=config.resolve_seconds,
                repeat_seconds=config.repeat_seconds,
                messages_per_minute=config.messages_per_minute,
            )
        )
        self._labels: set[tuple[str, str]] = set()
        self._last: float | None = None
        self._offset = time.time() - time.monotonic()
        self._routes = self._make_routes()

    def look(self, at: float, read: Callable[[float], Reading]) -> None:
        """Looks where it is time to. `read` gives a reading whose latest window has that many seconds."""
        if self._last is None:
            self._last = at
        passed = at - self._last
        if passed < self._config.interval_seconds or not self._leader.is_me():
            return
        self._last = at
        reading = read(passed)
        findings = list(over_thresholds(reading, self._thresholds))
        if self._config.gpus:
            findings += unwell_gpus(reading)
        if self._levels is not None:
            findings += self._levels.read(reading)
        message = self._book.look(findings, at)
        self._show()
        if message is not None:
            to_log(message)
            for route in self._routes:
                route.receiver.give(route.document(message))

    def shown(self) -> dict[str, Any]:
        """What GET /v1/optimization/alerts tells."""
        return {
            "firing": [
                {"name": alert.name, "severity": alert.severity.value, "message": alert.message, "seconds": seconds}
                for alert, seconds in self._firing()
            ],
            "receivers": ["log", *(route.receiver.name for route in self._routes)],
        }

    def close(self) -> None:
        close_all([route.receiver for route in self._routes])
        self._leader.close()

    def _firing(self) -> list[tuple[Alert, float]]:
        return [(alert, round(alert.seen - alert.since, 1)) for alert in self._book.firing]

    def _show(self) -> None:
        now = {(alert.name, alert.severity.value) for alert in self._book.firing}
        self._labels |= now
        for labels in self._labels:
            self._metrics.alerts.labels(*labels).set(labels in now)

    def _wall(self, at: float) -> float:
        return self._offset + at

    def _make_routes(self) -> list[_Route]:
        config, labels = self._config, source_labels("trimtab-engine")
        count, timeout = self._metrics.deliveries, config.timeout_seconds
        routes = []
        if config.webhook is not None:
            hook = Receiver("webhook", config.webhook, timeout=timeout, deliveries=count)
            routes.append(_Route(receiver=hook, document=lambda message: for_webhook(message, labels, self._wall)))
        if config.alertmanager is not None:
            url = config.alertmanager.rstrip("/") + "/api/v2/alerts"
            manager = Receiver("alertmanager", url, timeout=timeout, deliveries=count)
            # Told again each `repeat_seconds`: one that is lost must not end the alert.
            keep = 3 * config.repeat_seconds

            def document(message: Message) -> Any:
                return for_alertmanager(message, labels, self._wall, time.time() + keep)

            routes.append(_Route(receiver=manager, document=document))
        return routes

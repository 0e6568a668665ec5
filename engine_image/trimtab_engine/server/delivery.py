"""Brings alerts to their receivers, each by a thread of its own, so that one that hangs delays nothing and nobody."""

from __future__ import annotations

import json
import logging
import queue
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Counter

from trimtab_engine.alerts.book import Alert, Message

log = logging.getLogger("trimtab_engine.alerts")

WAITING_MESSAGES = 32
PAUSES = (0.5, 2.0)
_END = None


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def for_webhook(message: Message, labels: dict[str, str], wall: Callable[[float], float]) -> Any:
    """The document that a webhook gets."""

    def told(alert: Alert) -> dict[str, Any]:
        return {
            "name": alert.name,
            "severity": alert.severity.value,
            "message": alert.message,
            "since": _stamp(wall(alert.since)),
            "until": None if alert.over is None else _stamp(wall(alert.over)),
        }

    return {
        "status": "firing" if message.firing else "resolved",
        "source": labels,
        "firing": [told(alert) for alert in message.firing],
        "resolved": [told(alert) for alert in message.resolved],
    }


def for_alertmanager(message: Message, labels: dict[str, str], wall: Callable[[float], float], until: float) -> Any:
    """The document of `POST /api/v2/alerts`: what fires ends at `until` (seconds since the epoch) unless told again."""

    def told(alert: Alert) -> dict[str, Any]:
        return {
            # The severity is no label here: Alertmanager would take another one for another alert.
            "labels": {"alertname": alert.name, **labels},
            "annotations": {"summary": alert.message, "severity": alert.severity.value},
            "startsAt": _stamp(wall(alert.since)),
            "endsAt": _stamp(until if alert.over is None else wall(alert.over)),
        }

    return [told(alert) for alert in (*message.firing, *message.resolved)]


def source_labels(service: str) -> dict[str, str]:
    """Where an alert comes from."""
    return {"service": service, "instance": socket.gethostname()}


class Receiver:
    """Posts documents to one address, in order. `give` never waits: where too many do, the oldest is dropped."""

    def __init__(self, name: str, url: str, *, timeout: float, deliveries: Counter) -> None:
        self.name = name
        self._url = url
        self._timeout = timeout
        self._deliveries = deliveries
        self._queue: queue.Queue[Any] = queue.Queue(WAITING_MESSAGES)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"alerts-{name}", daemon=True)
        self._thread.start()

    def give(self, document: Any) -> None:
        while True:
            try:
                self._queue.put_nowait(document)
            except queue.Full:
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    continue
                self._count("dropped")
            else:
                return

    def close(self) -> None:
        """Ends after what is being sent; what does not end in time is left behind."""
        self._ending.set()
        self.give(_END)
        self._thread.join(self._timeout + 0.5)

    def _work(self) -> None:
        while (document := self._queue.get()) is not _END:
            self._count("sent" if self._send(json.dumps(document).encode()) else "failed")

    def _send(self, body: bytes) -> bool:
        problem = ""
        for pause in (*PAUSES, None):
            request = urllib.request.Request(self._url, body, {"content-type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=self._timeout):
                    return True
            except (OSError, ValueError, urllib.error.URLError) as error:
                problem = str(error)
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
            if pause is None or self._ending.wait(pause):
                break
        log.warning("Alerts did not reach the %s: %s", self.name, problem)
        return False

    def _count(self, outcome: str) -> None:
        self._deliveries.labels(self.name, outcome).inc()


def to_log(message: Message) -> None:
    """Into the server's own log."""
    for alert in message.firing:
        log.warning("%s (%s): %s", alert.name, alert.severity.value, alert.message)
    for alert in message.resolved:
        log.info("%s is over", alert.name)


def close_all(receivers: Sequence[Receiver]) -> None:
    for receiver in receivers:
        receiver.close()

"""Watches requests for the monitor, the metrics and the traces. Nothing that goes wrong here touches a request."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from trimtab_engine.asgi.answers import Scope
from trimtab_engine.asgi.exchange import End
from trimtab_engine.asgi.watch import Watch
from trimtab_engine.monitor.measured import Outcome
from trimtab_engine.monitor.monitor import Monitor
from trimtab_engine.server.request_metrics import RequestMetrics

log = logging.getLogger("trimtab_engine.watching")


class Span(Protocol):
    """A request's trace; see `server/tracing`."""

    def end(self, watch: Watch, outcome: Outcome) -> None: ...


class Tracer(Protocol):
    """Begins traces; see `server/tracing`."""

    def begin(self, path: str, scope: Scope) -> Span: ...


class Request:
    """One request that is watched."""

    def __init__(self, watch: Watch, span: Span | None) -> None:
        self.watch = watch
        self.span = span
        self.told_first = False


class Watching:
    """For the event loop's thread alone."""

    def __init__(self, monitor: Monitor, metrics: RequestMetrics, tracer: Tracer | None = None) -> None:
        self.monitor = monitor
        self._metrics = metrics
        self._tracer = tracer
        self._inside: set[Request] = set()
        self._broken = False

    def begin(self, path: str, scope: Scope) -> Request | None:
        """A request that was accepted; None where it cannot be watched."""
        try:
            span = self._tracer.begin(path, scope) if self._tracer else None
            request = Request(Watch(time.monotonic), span)
            self._inside.add(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the request goes on
            self._complain(error)
            return None
        return request

    def refused(self) -> None:
        """A request was answered with 429."""
        try:
            self._count(Outcome.REFUSED, latency=None, prompt_tokens=0)
        except Exception as error:  # noqa: BLE001 - as above
            self._complain(error)

    def ended(self, request: Request | None, end: End | None) -> None:
        """A request has left; `end` is None where the application raised."""
        if request is None:
            return
        self._inside.discard(request)
        try:
            watch = request.watch
            self._drain(request)
            outcome = outcome_of(watch, end)
            latency = time.monotonic() - watch.began if outcome is Outcome.SUCCEEDED else None
            self._count(outcome, latency=latency, prompt_tokens=watch.prompt_tokens)
            if request.span is not None:
                request.span.end(watch, outcome)
        except Exception as error:  # noqa: BLE001 - as above
            self._complain(error)

    def tick(self) -> None:
        """Takes in the tokens of requests that go on, so that a long answer counts while it is made."""
        for request in self._inside:
            self._drain(request)

    def _drain(self, request: Request) -> None:
        watch, now = request.watch, time.monotonic()
        if watch.first is not None and not request.told_first:
            request.told_first = True
            self.monitor.first_token(now, ttft=watch.first - watch.began)
            self._metrics.first_token(watch.first - watch.began)
        count, gaps = watch.fresh()
        if count:
            self.monitor.tokens(now, gaps=gaps, count=count)
            self._metrics.tokens(count, gaps)

    def _count(self, outcome: Outcome, *, latency: float | None, prompt_tokens: int) -> None:
        self.monitor.ended(time.monotonic(), outcome, latency=latency, prompt_tokens=prompt_tokens)
        self._metrics.ended(outcome, latency=latency, prompt_tokens=prompt_tokens)

    def _complain(self, error: Exception) -> None:
        """Once: what fails for one request fails for all."""
        if not self._broken:
            self._broken = True
            log.error("Requests are served, and not all are measured: %s: %s", type(error).__name__, error)


def outcome_of(watch: Watch, end: End | None) -> Outcome:
    """How a request ended, from what was seen of its answer."""
    if end is End.TIMED_OUT:
        return Outcome.TIMED_OUT
    if end is None or watch.status >= 500 or watch.failed_inside:
        return Outcome.FAILED
    if end is End.TOO_LARGE or watch.status >= 400:
        return Outcome.INVALID
    return Outcome.SUCCEEDED if watch.complete else Outcome.ABORTED

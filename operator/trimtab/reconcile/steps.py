"""The steps of one cycle: timed for the metrics, traced, and told of in one log line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from trimtab.reconcile import status
from trimtab.reconcile.memory import Key
from trimtab.telemetry import logs
from trimtab.telemetry.metrics import Metrics
from trimtab.telemetry.tracing import Tracing


class Steps:
    """Times the steps of one cycle, for the metrics and for its one log line."""

    def __init__(self, key: Key, telemetry: Metrics, tracing: Tracing) -> None:
        self._key = key
        self._telemetry = telemetry
        self._tracing = tracing
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            with self._tracing.span(f"trimtab.{name}", resource=str(self._key)), self._telemetry.step(name):
                yield
        finally:
            self._seconds[name] = time.perf_counter() - began

    def log(self, report: status.Report) -> None:
        """One line a reconcile."""
        outcome = "blocked" if report.problem is not None else "ok"
        reason = report.problem.reason.value if report.problem is not None else ""
        if report.state is not None:
            reason = reason or report.state.phase.value
        logs.reconciled(
            self._key.namespace,
            self._key.name,
            outcome,
            seconds=self._seconds,
            reason=reason,
            message=status.summary(report),
        )
        self._telemetry.reconciled(outcome)

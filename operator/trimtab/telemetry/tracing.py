"""Traces by OpenTelemetry where it is installed and an endpoint is configured; otherwise nothing, at no cost.

A trace is never waited for: spans leave in the background, a full queue drops them, and no failure reaches the caller.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_log = logging.getLogger(__name__)


class Tracing:
    """`span` wraps a step. Use `configure` to build one."""

    def __init__(self, tracer: Any = None, provider: Any = None) -> None:
        self._tracer = tracer
        self._provider = provider

    @property
    def enabled(self) -> bool:
        return self._tracer is not None

    @contextmanager
    def span(self, name: str, **attributes: str | int | float | bool) -> Iterator[None]:
        """A span around a block, below the span that is open. An exception of the block passes through unchanged;
        the span keeps its type only, because its text may quote an object.
        """
        manager, span = self._enter(name, attributes)
        try:
            yield
        except BaseException as error:
            kind = type(error).__name__
            self._quietly(lambda: span.set_attribute("error.type", kind), span)
            raise
        finally:
            self._quietly(lambda: manager.__exit__(None, None, None), manager)

    def _enter(self, name: str, attributes: dict[str, Any]) -> tuple[Any, Any]:
        if self._tracer is None:
            return None, None
        try:
            manager = self._tracer.start_as_current_span(name, attributes=attributes)
            return manager, manager.__enter__()
        except Exception:  # noqa: BLE001 - monitoring must never stop what it watches
            _log.debug("A span could not be started.", exc_info=True)
            return None, None

    def _quietly(self, action: Any, span: Any) -> None:
        if span is None:
            return
        try:
            action()
        except Exception:  # noqa: BLE001
            _log.debug("A span could not be written.", exc_info=True)

    def close(self) -> None:
        """Gives what is still queued a moment to leave."""
        if self._provider is not None:
            self._quietly(self._provider.shutdown, self._provider)


def configure(*, endpoint: str, service: str = "trimtab", exporter: Any = None) -> Tracing:
    """Tracing to an OTLP endpoint over HTTP; switched off without one, or where OpenTelemetry is not installed.

    `exporter` replaces the OTLP exporter.
    """
    if not endpoint and exporter is None:
        return Tracing()
    try:
        resources = importlib.import_module("opentelemetry.sdk.resources")
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        if exporter is None:
            otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            exporter = otlp.OTLPSpanExporter(endpoint=endpoint, timeout=5)
        provider = sdk.TracerProvider(
            resource=resources.Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        provider.add_span_processor(
            export.BatchSpanProcessor(exporter, max_queue_size=2048, export_timeout_millis=5000)
        )
        return Tracing(provider.get_tracer("trimtab"), provider)
    except Exception as error:  # noqa: BLE001 - tracing is optional, whatever is wrong with it
        _log.warning("Tracing is off: %s: %s", type(error).__name__, error)
        return Tracing()

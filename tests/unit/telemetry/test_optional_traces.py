"""Traces: there when they are wanted, never in the way."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trimtab.telemetry import tracing
from trimtab.telemetry.tracing import Tracing


def test_without_an_endpoint_there_are_no_traces_and_blocks_run() -> None:
    off = tracing.configure(endpoint="")
    assert not off.enabled
    with off.span("cycle", namespace="n"):
        pass
    off.close()


def test_steps_are_children_of_their_cycle_and_an_error_keeps_only_its_type() -> None:
    memory = InMemorySpanExporter()
    on = tracing.configure(endpoint="", exporter=memory)
    with pytest.raises(ValueError, match="contents"), on.span("cycle", namespace="n"), on.span("observe"):
        raise ValueError("contents of an object")
    on.close()
    step, cycle = memory.get_finished_spans()
    assert (step.name, cycle.name) == ("observe", "cycle")
    assert step.parent is not None
    assert cycle.context is not None
    assert step.parent.span_id == cycle.context.span_id
    assert step.attributes is not None
    assert step.attributes["error.type"] == "ValueError"
    assert cycle.attributes is not None
    assert cycle.attributes["namespace"] == "n"
    assert "contents" not in str(step.to_json())


def test_an_exporter_that_fails_reaches_nobody() -> None:
    class Broken(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise ConnectionError("the collector is away")

    on = tracing.configure(endpoint="", exporter=Broken())
    with on.span("cycle"):
        pass
    on.close()


def test_a_tracer_that_fails_reaches_nobody() -> None:
    class Broken:
        def start_as_current_span(self, *_: object, **__: object) -> Any:
            raise RuntimeError("no spans today")

    done = []
    with Tracing(Broken()).span("cycle"):
        done.append(1)
    assert done == [1]


def test_without_opentelemetry_tracing_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert not tracing.configure(endpoint="http://127.0.0.1:4318/v1/traces").enabled

"""Traces by OpenTelemetry: a span for each request, and one below it for each of queue, prefill and decode.

Attributes follow the semantic conventions for generative AI (opentelemetry.io, `gen_ai.*`, 0.66b2). A span is made when
its request has ended, from times that were seen, so a token costs a trace nothing. Spans wait in a bounded queue for a
thread that sends them; when the collector hangs or is away, the oldest ones are dropped, and no request
waits.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter

from trimtab_engine.asgi.answers import Scope, header
from trimtab_engine.asgi.watch import Watch
from trimtab_engine.config.observing import TracingConfig
from trimtab_engine.monitor.measured import Outcome
from trimtab_engine.shared.starts import key_of

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v2/embed": "embeddings",
}
_GOOD = frozenset({Outcome.SUCCEEDED, Outcome.ABORTED})
_REQUEST_ID = "x-request-id"
_CLOSE_SECONDS = 3.0


class _Counting(SpanExporter):
    """Counts what leaves and what does not."""

    def __init__(self, inner: SpanExporter, spans: Counter) -> None:
        self._inner = inner
        self._spans = spans

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            outcome = "exported" if result is SpanExportResult.SUCCESS else "failed"
            self._spans.labels(outcome).inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class RequestTracer:
    """`taken_up` tells when the engine took up the request of a name (monotonic seconds), or None."""

    def __init__(
        self,
        config: TracingConfig,
        *,
        model: str,
        engine: str,
        spans: Counter,
        taken_up: Callable[[str], float | None],
    ) -> None:
        assert config.endpoint is not None
        self._attributes = {"gen_ai.provider.name": engine, "gen_ai.request.model": model}
        self.model = model
        self._taken_up = taken_up
        self._propagator = TraceContextTextMapPropagator()
        exporter = OTLPSpanExporter(endpoint=config.endpoint, timeout=config.timeout_seconds)
        self._processor = BatchSpanProcessor(
            _Counting(exporter, spans),
            max_queue_size=config.queue_spans,
            max_export_batch_size=min(512, config.queue_spans),
            schedule_delay_millis=1000,
        )
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(config.sample_percent / 100),
            resource=Resource.create({"service.name": config.service_name}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("trimtab_engine")

    def begin(self, path: str, scope: Scope) -> RequestSpan:
        """Begins the trace of a request, below its `traceparent`; the engine finds the new one in its place.

        A request without an `X-Request-Id` gets one, by which the engine's process names it.
        """
        operation = _OPERATIONS.get(path, "inference")
        carrier = {name: value for name in ("traceparent", "tracestate") if (value := header(scope, name))}
        span = self._tracer.start_span(
            f"{operation} {self.model}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={**self._attributes, "gen_ai.operation.name": operation, "url.path": path},
        )
        onward: dict[str, str] = {}
        self._propagator.inject(onward, context=set_span_in_context(span))
        name = header(scope, _REQUEST_ID)
        if name is None:
            name = onward[_REQUEST_ID] = uuid.uuid4().hex
        _replace_headers(scope, onward)
        return RequestSpan(self, span, name)

    def taken_up(self, name: str) -> float | None:
        return self._taken_up(name) if key_of(name) else None

    def child(self, parent: Span, name: str, since: int, until: int, attributes: Mapping[str, Any]) -> None:
        """A span that is over, in nanoseconds since the epoch."""
        span = self._tracer.start_span(
            name, context=set_span_in_context(parent), start_time=since, attributes=dict(attributes)
        )
        span.end(until)

    def close(self) -> None:
        """Sends what waits, for some seconds at most; what has not left by then is dropped."""
        closing = threading.Thread(target=self._processor.shutdown, name="close-tracing", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


class RequestSpan:
    """The trace of one request."""

    def __init__(self, tracer: RequestTracer, span: Span, name: str) -> None:
        self._tracer = tracer
        self._span = span
        self._name = name

    def end(self, watch: Watch, outcome: Outcome) -> None:
        """Ends the trace with what was seen."""
        span = self._span
        if span.is_recording():
            self._describe(watch, outcome)
            self._children(watch)
        span.end()

    def _describe(self, watch: Watch, outcome: Outcome) -> None:
        span = self._span
        span.set_attributes(
            {
                "http.response.status_code": watch.status,
                "gen_ai.response.model": self._tracer.model,
                "gen_ai.request.stream": watch.streamed,
                "gen_ai.usage.input_tokens": watch.prompt_tokens,
                "gen_ai.usage.output_tokens": watch.output_tokens,
                "trimtab.outcome": outcome.value,
            }
        )
        if watch.finish:
            span.set_attribute("gen_ai.response.finish_reasons", [watch.finish])
        if watch.first is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", watch.first - watch.began)
        if outcome not in _GOOD:
            span.set_attribute("error.type", outcome.value if watch.status in (0, 200) else str(watch.status))
            span.set_status(Status(StatusCode.ERROR, f"The request {outcome.value.replace('_', ' ')}."))

    def _children(self, watch: Watch) -> None:
        """Queue until the engine took it up, prefill until the first token, decode until the last."""
        offset = time.time_ns() - round(time.monotonic() * 1e9)

        def wall(seconds: float) -> int:
            return offset + round(seconds * 1e9)

        since, taken = watch.began, self._tracer.taken_up(self._name)
        if taken is not None and taken >= since:
            self._tracer.child(self._span, "queue", wall(since), wall(taken), {})
            since = taken
        if watch.first is None or watch.last is None:
            return
        self._tracer.child(
            self._span,
            "prefill",
            wall(since),
            wall(max(watch.first, since)),
            {"trimtab.queue_known": taken is not None},
        )
        decoded = {"gen_ai.usage.output_tokens": watch.output_tokens}
        self._tracer.child(self._span, "decode", wall(watch.first), wall(watch.last), decoded)


def _replace_headers(scope: Scope, given: Mapping[str, str]) -> None:
    names = {name.encode("latin-1") for name in given}
    kept = [(name, value) for name, value in scope.get("headers") or () if name.lower() not in names]
    scope["headers"] = kept + [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]

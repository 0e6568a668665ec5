"""Traces by OTLP to a real receiver, and that a receiver that hangs keeps nobody waiting."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.unit.engine.asgi import ask
from tests.unit.engine.sinks import hanging, sink
from tests.unit.engine.test_engine_gate import House
from trimtab_engine.asgi.answers import Message, Receive, Scope, Send, answer, header
from trimtab_engine.shared.starts import SLOTS, Starts, StartsReader

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CHAT = "/v1/chat/completions"


class Streaming:
    """An engine that takes a request up, and answers with three tokens; it keeps the headers that it saw."""

    def __init__(self, starts: Starts) -> None:
        self.starts = starts
        self.headers: dict[str, str | None] = {}
        self.status = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = {name: header(scope, name) for name in ("traceparent", "x-request-id")}
        if self.status != 200:
            await answer(send, self.status, {})
            return
        self.starts.post(f"chatcmpl-{self.headers['x-request-id']}-1a2b", time.monotonic())
        kind = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        for body in (
            b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"b"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"c"},"finish_reason":"stop"}]}\n\n',
            b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}\n\n',
        ):
            message: Message = {"type": "http.response.body", "body": body, "more_body": True}
            await send(message)
            await asyncio.sleep(0.001)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


def house(folder: Path, url: str, **given: Any) -> tuple[House, Streaming]:
    engine = Streaming(Starts(folder))
    fields = {"tracing.endpoint": f"{url}/v1/traces", "served_model_name": "m75", **given}
    built = House(folder, **fields)
    built.gate.app = engine
    built.gate.keeper._starts.find()
    return built, engine


def attributes(span: Span) -> dict[str, Any]:
    found = {}
    for entry in span.attributes:
        kind = entry.value.WhichOneof("value")
        value = getattr(entry.value, kind)
        found[entry.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


async def test_a_request_is_a_span_below_its_caller_with_queue_prefill_and_decode_below_it(tmp_path: Path) -> None:
    with sink() as receiver:
        built, engine = house(tmp_path, receiver.url)
        assert (await ask(built.gate, "POST", CHAT, headers={"traceparent": PARENT})).status == 200
        await asyncio.to_thread(built.gate.keeper.close)
        spans = receiver.spans()
    assert set(spans) == {"chat m75", "queue", "prefill", "decode"}
    root = spans["chat m75"]
    assert root.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    assert root.kind == Span.SPAN_KIND_SERVER
    assert engine.headers["traceparent"] == f"00-{root.trace_id.hex()}-{root.span_id.hex()}-01"
    order = [spans[name] for name in ("queue", "prefill", "decode")]
    assert all(span.parent_span_id == root.span_id for span in order)
    assert order[0].end_time_unix_nano == order[1].start_time_unix_nano
    assert order[1].end_time_unix_nano == order[2].start_time_unix_nano
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in order)
    told = attributes(root)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "vllm"
    assert (told["gen_ai.request.model"], told["gen_ai.response.model"]) == ("m75", "m75")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (5, 3)
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert told["gen_ai.response.time_to_first_chunk"] > 0
    assert built.metric('trimtab_engine_spans_total{outcome="exported"}') == 4


async def test_a_failed_request_is_an_error_in_its_trace(tmp_path: Path) -> None:
    with sink() as receiver:
        built, engine = house(tmp_path, receiver.url)
        engine.status = 500
        await ask(built.gate, "POST", "/v1/completions")
        await asyncio.to_thread(built.gate.keeper.close)
        (root,) = receiver.spans().values()
    assert root.name == "text_completion m75"
    assert root.status.code == Status.STATUS_CODE_ERROR
    assert attributes(root)["error.type"] == "500"


async def test_a_share_of_the_requests_is_traced_and_a_caller_that_traces_always(tmp_path: Path) -> None:
    with sink() as receiver:
        built, _ = house(tmp_path, receiver.url, **{"tracing.sample_percent": 0})
        await ask(built.gate, "POST", CHAT)
        await ask(built.gate, "POST", CHAT, headers={"traceparent": PARENT})
        await asyncio.to_thread(built.gate.keeper.close)
        roots = [span for span in receiver.spans().values() if span.name == "chat m75"]
    assert [span.trace_id.hex() for span in roots] == ["0af7651916cd43dd8448eb211c80319c"]


async def test_a_request_keeps_the_name_that_its_client_gave_it(tmp_path: Path) -> None:
    with sink() as receiver:
        built, engine = house(tmp_path, receiver.url)
        await ask(built.gate, "POST", CHAT, headers={"x-request-id": "order 4711"})
        await asyncio.to_thread(built.gate.keeper.close)
        assert engine.headers["x-request-id"] == "order 4711"
        assert set(receiver.spans()) == {"chat m75", "prefill", "decode"}  # the engine's side cannot be found


async def test_a_collector_that_hangs_delays_nothing_and_memory_stays_bounded(tmp_path: Path) -> None:
    """Requests go through while an export hangs: if they waited for it, this would take its whole time-out each."""
    with hanging() as url:
        given = {"tracing.queue_spans": 16, "tracing.timeout_seconds": 1}
        built, _ = house(tmp_path, url, **given)
        for _ in range(50):
            assert (await ask(built.gate, "POST", CHAT)).status == 200
        tracer = built.gate.keeper._tracer
        assert tracer is not None
        assert len(tracer._processor._batch_processor._queue) <= 16
        await asyncio.to_thread(built.gate.keeper.close)
    assert built.metric('trimtab_engine_requests_total{model="m75",outcome="succeeded"}') == 50


async def test_a_tracer_that_breaks_breaks_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sink() as receiver:
        built, _ = house(tmp_path, receiver.url)
        watching = built.gate.keeper.watching
        assert watching is not None

        def fail(*_: object) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(watching._tracer, "begin", fail)
        assert (await ask(built.gate, "POST", CHAT)).status == 200
        monkeypatch.undo()
        monkeypatch.setattr(watching.monitor, "ended", fail)
        assert (await ask(built.gate, "POST", CHAT)).status == 200
        await asyncio.to_thread(built.gate.keeper.close)


async def test_without_an_endpoint_nothing_is_traced_and_headers_stay(tmp_path: Path) -> None:
    built = House(tmp_path)
    engine = Streaming(Starts(tmp_path))
    built.gate.app = engine
    await ask(built.gate, "POST", CHAT, headers={"traceparent": PARENT})
    assert engine.headers == {"traceparent": PARENT, "x-request-id": None}


def test_a_ring_of_starts_forgets_the_oldest_and_finds_the_others(tmp_path: Path) -> None:
    starts, reader = Starts(tmp_path), StartsReader(tmp_path)
    reader.find()
    names = [f"cmpl-{number:032x}-0-ab12" for number in range(1, SLOTS + 2)]
    for at, name in enumerate(names):
        starts.post(name, float(at))
    starts.post("a name of somebody else", 1.0)
    assert reader.read(names[0]) is None
    assert reader.read(names[1]) == 1.0
    assert reader.read(names[-1]) == float(SLOTS)
    assert reader.read("a name of somebody else") is None

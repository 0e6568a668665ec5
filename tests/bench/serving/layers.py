"""What our layers add to a token of a stream: the way of a message through the gate, without an engine."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from tests.bench.serving.rows import Row, at_most
from tests.models.make_embedder import write
from tests.unit.engine.asgi import ask, vllm_config
from trimtab_engine.asgi.answers import Receive, Scope, Send
from trimtab_engine.config.load import load
from trimtab_engine.engines.vllm.live import facts_of
from trimtab_engine.server.gate import Gate
from trimtab_engine.server.metrics import Metrics

TOKENS = 20_000
EVENT = b'data: {"choices":[{"index":0,"text":"a","finish_reason":null}]}\n\n'


def rows(_tell: Callable[[str], None]) -> Iterator[Row]:
    """With all of our layers on: a time-out of the request, and the semantic cache writing the answer down."""
    with tempfile.TemporaryDirectory() as folder:
        through = asyncio.run(_stream(Path(folder)))
    value = 1e3 * float(np.quantile(through, 0.95))
    detail = f"{TOKENS} tokens, median {1e3 * float(np.median(through)):.4f} ms, most {1e3 * max(through):.3f} ms"
    yield at_most("token added to a stream by our layers, p95", value, 2.0, unit="ms", detail=detail)


async def _stream(folder: Path) -> list[float]:
    """Seconds of each message on its way through the gate, to a client that takes no time."""
    through: list[float] = []

    async def engine(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(TOKENS):
            began = time.perf_counter()
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})
            through.append(time.perf_counter() - began)
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    gate = Gate(engine, folder=folder, metrics=Metrics(CollectorRegistry()))
    fields = {
        "model": "m",
        "server.request_timeout_seconds": 600,
        "semantic_cache.enabled": True,
        "semantic_cache.embedding_model": str(write(folder / "embedder")),
    }
    gate.set_up(load(None, {}, fields), folder, facts_of(vllm_config()))
    body = b'{"prompt": "How long is a piece of string?", "stream": true, "temperature": 0}'
    got = await ask(gate, "POST", "/v1/completions", body=body)
    if got.status != 200 or not got.complete:
        raise RuntimeError(f"the stream ended with {got.status}")
    return through

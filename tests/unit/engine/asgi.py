"""A client for an ASGI application, and an engine's application that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from trimtab_engine.asgi.answers import App, Message, Receive, Scope, Send, answer


def vllm_config(**changes: Any) -> Any:
    """What vLLM 0.32 resolves its arguments to, as far as limits are concerned."""
    scheduler = {
        "max_num_seqs": 32,
        "max_num_active_seqs": None,
        "max_num_batched_tokens": 2048,
        "max_num_scheduled_tokens": None,
        "enable_chunked_prefill": True,
        "long_prefill_token_threshold": 0,
        "watermark": 0.0,
        **changes,
    }
    return SimpleNamespace(
        scheduler_config=SimpleNamespace(**scheduler),
        model_config=SimpleNamespace(max_model_len=4096),
        cache_config=SimpleNamespace(block_size=16, mamba_cache_mode="none"),
        num_speculative_tokens=0,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what nobody tells."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@dataclass
class Answer:
    """What a client got."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    @property
    def document(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: App,
    method: str,
    path: str,
    *,
    body: bytes = b"{}",
    headers: Mapping[str, str] | None = None,
    state: Any = None,
    chunks: int = 1,
) -> Answer:
    """One request. With several chunks the body comes without its length, as from a client that streams it."""
    given = {"content-length": str(len(body))} if chunks == 1 else {"transfer-encoding": "chunked"}
    lines = [(k.encode(), v.encode()) for k, v in {**given, **(headers or {})}.items()]
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": lines,
        "app": SimpleNamespace(state=state),
    }
    size = -(-len(body) // chunks)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    got = Answer()

    async def receive() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
        await asyncio.Event().wait()  # the client stays
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        assert not got.complete, "something was sent after the end of the answer"
        if message["type"] == "http.response.start":
            assert not got.status, "an answer begins once"
            got.status = message["status"]
            got.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            assert got.status, "an answer begins with its status"
            got.body += message.get("body", b"")
            got.complete = not message.get("more_body", False)

    await app(scope, receive, send)
    return got


@dataclass
class Engine:
    """Answers when `answering` is set; `aborted` counts the requests that were given up before."""

    answering: asyncio.Event = field(default_factory=asyncio.Event)
    healthy: bool = True
    stream: bool = False
    seen: int = 0
    aborted: int = 0
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["path"] == "/health":
            await answer(send, 200 if self.healthy else 503, {})
        else:
            await self._complete(receive, send)

    async def _complete(self, receive: Receive, send: Send) -> None:
        """As vLLM: reads the body, then listens for the client's end while it computes."""
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body") or b""
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        self.seen += 1
        if self.stream:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        gone = asyncio.ensure_future(receive())
        done = asyncio.ensure_future(self.answering.wait())
        await asyncio.wait({gone, done}, return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, done):
            task.cancel()
        if not self.answering.is_set():
            self.aborted += 1
        if self.stream:
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})
        else:
            await answer(send, 200, {"choices": []})

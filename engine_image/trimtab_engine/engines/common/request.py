"""One request: its text as it comes, its answer whole or as a stream, and what is measured of it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Protocol

from trimtab_engine.asgi.answers import Send, answer, error_body
from trimtab_engine.engines.common.metrics import EngineMetrics
from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.common.replies import FinishReason, Head, Text, Usage
from trimtab_engine.engines.common.requests import Wish


class Surroundings(Protocol):
    """What a request asks of the API that it came through."""

    model: str
    metrics: EngineMetrics

    def generate(self, name: str, tokens: list[int], wish: Wish) -> AsyncGenerator[Output, None]: ...
    def decoder(self) -> Callable[[int], str]: ...
    def ends(self, token: int) -> bool: ...


class Request:
    """One request and what has come of it."""

    def __init__(self, api: Surroundings, wish: Wish, tokens: list[int], name: str) -> None:
        self.head = Head(wish=wish, name=name, model=api.model, created=int(time.time()))
        self.finish: FinishReason = "length"
        self._api = api
        self._wish = wish
        self._tokens = tokens
        self._count = 0
        self._reused = 0
        self._began = time.monotonic()
        self._first = 0.0
        self._last = 0.0
        self._started = False

    @property
    def usage(self) -> Usage:
        return Usage(prompt=len(self._tokens), completion=self._count, cached=self._reused)

    async def whole(self, send: Send) -> None:
        """The answer in one."""
        text = "".join([piece async for piece in self._pieces()])
        await answer(send, 200, self.head.whole(text, self.finish, self.usage))

    async def stream(self, send: Send) -> None:
        """The answer as events. `send` waits while the client does not read."""
        pieces = self._pieces()
        async for text in pieces:
            if not self._started:
                await self._start(send)
            if text:
                await _event(send, self.head.piece(text, None))
        await _event(send, self.head.piece("", self.finish))
        for document in self.head.last(self.usage):
            await _event(send, document)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    async def fail(self, send: Send) -> None:
        """The answer to a request that the generator gave up on."""
        body = error_body(500, "The engine could not complete the request.", kind="internal_error")
        if self._started:
            await _event(send, body)
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})
        else:
            await answer(send, 500, body)

    async def _start(self, send: Send) -> None:
        self._started = True
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for document in self.head.first():
            await _event(send, document)

    async def _pieces(self) -> AsyncIterator[str]:
        """The text as it comes. A stop text or the end of the text ends it."""
        text, decode = Text(self._wish.stop), self._api.decoder()
        outputs = self._api.generate(self.head.name, self._tokens, self._wish)
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                new, self._reused = output.tokens[self._count :], output.reused
                self._note(len(new))
                if output.finished and new and not self._wish.ignore_eos and self._api.ends(new[-1]):
                    self.finish, new = "stop", new[:-1]
                yield text.add("".join(decode(token) for token in new))
                if text.stopped:
                    self.finish = "stop"
                    break
            else:
                yield text.rest()
        self._ended()

    def _note(self, new: int) -> None:
        metrics, now = self._api.metrics, time.monotonic()
        if new and not self._count:
            self._first = now
            metrics.ttft.observe(now - self._began)
            metrics.prompt_tokens.inc(len(self._tokens))
        elif new:
            for _ in range(new):
                metrics.itl.observe((now - self._last) / new)
        metrics.generation_tokens.inc(new)
        self._count, self._last = self._count + new, now

    def _ended(self) -> None:
        metrics, now = self._api.metrics, time.monotonic()
        metrics.e2e.observe(now - self._began)
        if self._count > 1:
            metrics.tpot.observe((now - self._first) / (self._count - 1))
        metrics.request_prompt.observe(len(self._tokens))
        metrics.request_generation.observe(self._count)
        metrics.ended(self.finish)


async def _event(send: Send, document: dict[str, Any]) -> None:
    body = f"data: {json.dumps(document)}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})

"""One request on its way through the engine's application, which may be ended before the application is done.

The application is told by `http.disconnect`, as if the client had gone: engines stop to compute then. Cancelling it
instead would leave the request running in vLLM 0.32, whose handlers run in tasks of their own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from trimtab_engine.asgi.answers import DISCONNECT, App, Message, Receive, Scope, Send, answer, error_body, header


class End(Enum):
    """How an exchange ended."""

    ANSWERED = auto()
    TIMED_OUT = auto()
    TOO_LARGE = auto()


class Exchange:
    """`run` it once."""

    def __init__(self, receive: Receive, send: Send, *, largest_body: int, timeout: float | None) -> None:
        self._receive = receive
        self._send = send
        self._left = largest_body
        self._largest = largest_body
        self._timeout = timeout
        self._ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._held: Message | None = None
        self._started: Message | None = None
        self._complete = False
        self._closing: asyncio.Future[None] | None = None

    async def run(self, app: App, scope: Scope) -> End:
        """Until the application is done. An answer of ours goes out as soon as it is due."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._timeout, self._end, End.TIMED_OUT) if self._timeout is not None else None
        try:
            await app(scope, self._read, self._write)
        except Exception:
            if not self._ended.done():
                raise  # not ours: the request was not ended by us
        finally:
            if timer is not None:
                timer.cancel()
        if self._closing is None:
            await self._release()
            return End.ANSWERED
        await self._closing
        return self._ended.result()

    def _end(self, end: End) -> None:
        if not self._ended.done() and not self._complete:
            self._ended.set_result(end)
            self._closing = asyncio.ensure_future(self._close(end))

    async def _read(self) -> Message:
        if self._ended.done():
            return DISCONNECT
        reading = asyncio.ensure_future(self._receive())
        try:
            both: set[asyncio.Future[Any]] = {reading, self._ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done():
                reading.cancel()
        if self._ended.done():
            return DISCONNECT
        message = reading.result()
        self._left -= len(message.get("body") or b"")
        if self._left < 0:
            self._end(End.TOO_LARGE)
            return DISCONNECT
        return message

    async def _write(self, message: Message) -> None:
        """Passes the application's answer on. Its start waits for the first content: until then it may be another."""
        if self._ended.done():
            return
        if message["type"] == "http.response.start":
            self._held = message
            return
        self._complete = not message.get("more_body", False)
        await self._release()
        await self._send(message)

    async def _release(self) -> None:
        if self._held is not None:
            self._started, self._held = self._held, None
            await self._send(self._started)

    async def _close(self, end: End) -> None:
        status, message = _WORDS[end](self)
        body = error_body(status, message, kind=end.name.lower())
        if self._started is None:
            await answer(self._send, status, body, {"connection": "close"})
        elif (header(self._started, "content-type") or "").startswith("text/event-stream"):
            content = f"data: {json.dumps(body)}\n\ndata: [DONE]\n\n".encode()
            await self._send({"type": "http.response.body", "body": content, "more_body": False})

    @property
    def timeout(self) -> float:
        return self._timeout or 0.0

    @property
    def largest(self) -> int:
        return self._largest


_WORDS: dict[End, Callable[[Exchange], tuple[int, str]]] = {
    End.TIMED_OUT: lambda it: (504, f"The request took longer than {it.timeout:g} s."),
    End.TOO_LARGE: lambda it: (413, f"The body of the request is longer than {it.largest} bytes."),
}

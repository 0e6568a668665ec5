"""What can be seen of one request from outside: its first token, its tokens, its end.

An answer that is streamed is one server-sent event for each token; vLLM puts several tokens into one event where it
decodes faster than the client reads, or guesses tokens. The `usage` of an answer, where it is there, tells of those.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from trimtab_engine.asgi.answers import Message, Send, header

_EVENT = b"data: "
_NEXT_EVENT = b"\n\ndata: "
_DONE = b"data: [DONE]"
# Events that carry no token: the role at the beginning, the reason at the end, the usage.
_EMPTY = re.compile(rb'"(?:text|content)":\s*""|"delta":\s*\{\}|"choices":\s*\[\]')
_ERROR = re.compile(rb'^data: \{\s*"error":', re.MULTILINE)
_USAGE = re.compile(rb'"(prompt|completion)_tokens":\s*(\d{1,9})')
_FINISH = re.compile(rb'"finish_reason":\s*"([a-z_]{1,32})"')
# The usage stands at the end of an answer.
_TAIL = 2048


class Watch:
    """`through` gives the `send` that the application uses. Times are those of `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.began = clock()
        self.first: float | None = None
        self.last: float | None = None
        self.status = 0
        self.streamed = False
        self.complete = False
        self.failed_inside = False
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.finish = ""
        self.broken = False
        self._gaps: list[float] = []
        self._fresh = 0
        self._clock = clock

    def through(self, send: Send) -> Send:
        """`send`, looked at. What is seen never keeps a message from being sent."""

        async def seen(message: Message) -> None:
            if not self.broken:
                try:
                    self.see(message)
                except Exception:  # noqa: BLE001 - an answer goes on, whatever it looks like
                    self.broken = True
            await send(message)

        return seen

    def see(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            self.streamed = (header(message, "content-type") or "").startswith("text/event-stream")
            return
        body = message.get("body") or b""
        self.complete = not message.get("more_body", False)
        if self.status != 200 or not body:
            return
        if self.streamed:
            self._events(body)
        # Every event of vLLM's has the field, null until the last one.
        if self.complete or body.count(b'"usage"') > body.count(b'"usage":null'):
            self._numbers(body[-_TAIL:])

    def fresh(self) -> tuple[int, list[float]]:
        """Tokens and the times between them since the last call."""
        counted, self._fresh = self._fresh, 0
        gaps, self._gaps = self._gaps, []
        return counted, gaps

    def _events(self, body: bytes) -> None:
        count = body.startswith(_EVENT) + body.count(_NEXT_EVENT)
        if _DONE in body[-20:]:
            count -= 1
        if count <= 0:
            return
        # Looking for bytes is ten times as fast as the patterns, and most events hold none of these.
        if b'"error"' in body and _ERROR.search(body):
            self.failed_inside = True
            return
        if b'"finish_reason":null' not in body:
            self._finish(body)
        if b'""' in body or b"{}" in body or b"[]" in body:
            count -= min(count, len(_EMPTY.findall(body)))
        if count:
            self._tokens(count)

    def _tokens(self, count: int) -> None:
        now = self._clock()
        if self.first is None:
            self.first = now
        elif self.last is not None:
            self._gaps += [(now - self.last) / count] * count
        self.last = now
        self._count(count)

    def _count(self, tokens: int) -> None:
        self.output_tokens += tokens
        self._fresh += tokens

    def _numbers(self, tail: bytes) -> None:
        for name, digits in _USAGE.findall(tail):
            if name == b"prompt":
                self.prompt_tokens = int(digits)
            else:
                self._count(max(0, int(digits) - self.output_tokens))
        self._finish(tail)

    def _finish(self, body: bytes) -> None:
        found = _FINISH.search(body)
        if found is not None:
            self.finish = found.group(1).decode()

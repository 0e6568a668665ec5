"""The semantic cache before the engine: a request is answered from it, or its answer is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from trimtab_engine.asgi.answers import Message, Receive, Scope, Send, header
from trimtab_engine.config.semantic_cache import SemanticCacheConfig
from trimtab_engine.semantic_cache.answer import Answer, events, may_be_kept
from trimtab_engine.semantic_cache.build import rules
from trimtab_engine.semantic_cache.cache import Asked, Hit, SemanticCache
from trimtab_engine.semantic_cache.question import CHAT, COMPLETIONS, Asker, Question, question
from trimtab_engine.server.metrics import Metrics

LARGEST_QUESTION = 64 * 1024  # bytes of a body that is read before the engine gets it
MARK = b"x-trimtab-cache"

Onward = Callable[[Scope, Receive, Send], Awaitable[None]]


class Cached:
    """`scope` names the model: answers of another one are never given."""

    def __init__(self, cache: SemanticCache, config: SemanticCacheConfig, *, scope: str, metrics: Metrics) -> None:
        self.cache = cache
        self._rules = rules(config, scope)
        self._tenants = ("authorization", *(name.lower() for name in config.tenant_headers))
        self._metrics = metrics
        self._keeping: set[asyncio.Task[None]] = set()

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send, onward: Onward) -> None:
        """`onward` is the way to the engine; its answer is kept where it may be."""
        length = header(scope, "content-length") or ""
        if path not in (COMPLETIONS, CHAT) or not length.isdecimal() or int(length[:9]) > LARGEST_QUESTION:
            await onward(scope, receive, send)
            return
        body, receive = await _read(receive)
        wanted = None if body is None else question(path, body, self._asker(scope), self._rules)
        if not isinstance(wanted, Question):
            if wanted is not None:
                self._metrics.looked_up(wanted.value)
            await onward(scope, receive, send)
            return
        began = time.perf_counter()
        asked = await self.cache.ask(wanted)
        outcome = "hit" if asked.hit else asked.miss.value if asked.miss else "failed"
        self._metrics.looked_up(outcome, seconds=time.perf_counter() - began)
        if asked.hit is not None:
            await _replay(asked.hit, send)
        else:
            keeper = _Keeper(send, self.cache.largest_answer_bytes)
            await onward(scope, receive, keeper)
            self._keep(asked, keeper)

    def _asker(self, scope: Scope) -> Asker:
        tenant = [header(scope, name) for name in self._tenants]
        return Asker(tenant=tenant, cache_control=header(scope, "cache-control"))

    def _keep(self, asked: Asked, keeper: _Keeper) -> None:
        """In a task of its own: the client has its answer and need not wait."""
        answer = keeper.answer()
        if answer is None or asked.vector is None:
            return
        task = asyncio.create_task(self._store(asked, answer))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _store(self, asked: Asked, answer: Answer) -> None:
        if may_be_kept(answer.content_type, answer.body) and await self.cache.keep(asked, answer):
            self._metrics.cached(len(self.cache))

    async def settled(self) -> None:
        """When all that is to be kept is kept."""
        while self._keeping:
            await asyncio.gather(*self._keeping)


class _Keeper:
    """Passes an answer on and keeps a copy; marks it as one from the engine."""

    def __init__(self, send: Send, largest: int) -> None:
        self._send = send
        self._largest = largest
        self._type: str | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == 200 and header(message, "content-encoding") is None:
                self._type = header(message, "content-type")
            message = {**message, "headers": [*(message.get("headers") or ()), (MARK, b"miss")]}
        elif self._type is not None:
            piece = message.get("body") or b""
            self._size += len(piece)
            if self._size > self._largest:
                self._type, self._pieces = None, []
            else:
                self._pieces.append(piece)
                self._whole = not message.get("more_body", False)
        await self._send(message)

    def answer(self) -> Answer | None:
        """None where it was no good one, not whole, or too long."""
        if self._type is None or not self._whole:
            return None
        return Answer(content_type=self._type, body=b"".join(self._pieces), at=time.time())


async def _read(receive: Receive) -> tuple[bytes | None, Receive]:
    """The body, and what gives it again; None where the client went away before it was whole."""
    seen: list[Message] = []
    while True:
        message = await receive()
        seen.append(message)
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    again = iter(seen)

    async def replayed() -> Message:
        message = next(again, None)
        return await receive() if message is None else message

    if seen[-1]["type"] != "http.request":
        return None, replayed
    return b"".join(message.get("body") or b"" for message in seen), replayed


async def _replay(hit: Hit, send: Send) -> None:
    """The answer as the engine gave it: a stream event by event, at the pace at which the client takes it."""
    answer = hit.answer
    stream = answer.content_type.startswith("text/event-stream")
    headers = [
        (b"content-type", answer.content_type.encode("latin-1")),
        (MARK, b"hit"),
        (b"x-trimtab-cache-similarity", f"{hit.similarity:.4f}".encode()),
        (b"age", str(max(0, int(time.time() - answer.at))).encode()),
    ]
    if not stream:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if stream:
        for event in events(answer.body):
            await send({"type": "http.response.body", "body": event + b"\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"" if stream else answer.body, "more_body": False})

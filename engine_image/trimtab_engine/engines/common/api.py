"""OpenAI's API over a generator, as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from trimtab_engine.asgi.answers import Message, Receive, Scope, Send, answer, error_body, header
from trimtab_engine.config.reuse import KvReuseConfig
from trimtab_engine.engines.common.guessing import Guessing
from trimtab_engine.engines.common.line import Line
from trimtab_engine.engines.common.metrics import EngineMetrics
from trimtab_engine.engines.common.openapi import document
from trimtab_engine.engines.common.protocol import GenerationError, Generator, Output
from trimtab_engine.engines.common.request import Request
from trimtab_engine.engines.common.requests import BadRequest, Wish, read_chat, read_completion
from trimtab_engine.engines.common.sharing import CONVERSATIONS, Sharing
from trimtab_engine.engines.common.size import BatchSize
from trimtab_engine.limits.batching import ALWAYS
from trimtab_engine.limits.limits import Limits
from trimtab_engine.shared.board import Board, Notice
from trimtab_engine.shared.starts import Starts, key_of
from trimtab_engine.shared.wanted import WantedFile

log = logging.getLogger("trimtab_engine.engine")

METHODS = {
    **dict.fromkeys(("/health", "/metrics", "/openapi.json", "/v1/models"), "GET"),
    **dict.fromkeys(("/v1/completions", "/v1/chat/completions"), "POST"),
}


class Api:
    """The application. `folder` is the run folder: limits come from it, and what is done goes onto its board."""

    def __init__(
        self,
        generator: Generator,
        *,
        model: str,
        resting: Limits,
        folder: Path,
        reuse: KvReuseConfig | None = None,
        registry: CollectorRegistry = REGISTRY,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.metrics = EngineMetrics(model, registry)
        self.metrics.cache(tokens=generator.room, page=generator.page)
        generator.measure(self.metrics)
        self._guessing = Guessing(generator, folder, self.metrics)
        self._batching = ALWAYS
        self._size = BatchSize(time.monotonic())
        self.line = Line(self._most, generator.room)
        self.sharing = Sharing(generator.forget, reuse or KvReuseConfig())
        self._generator = generator
        self._registry = registry
        self._limits = resting
        self._revision = 0
        self._steps = 0
        self._wanted = WantedFile(folder)
        self._board = Board(folder)
        self._starts = Starts(folder)
        self._names = itertools.count(1)
        self._on_death = on_death
        self._taking: dict[str, Callable[[Output], None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._route(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._generator.start()
        await self._guessing.begin()
        looking = asyncio.create_task(self._look())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        looking.cancel()
        await asyncio.to_thread(self._generator.stop)
        await send({"type": "lifespan.shutdown.complete"})

    async def _look(self) -> None:
        """Lets those in for whom a changed limit makes room, although nothing ends. Ends with the generator."""
        while self._generator.alive():
            self._take_wanted()
            self._guessing.look()
            self.line.move_up()
            self._post()
            self.sharing.tidy()
            await asyncio.sleep(0.1)
        log.error("The generation has ended.")
        for take in tuple(self._taking.values()):
            take(Output(tokens=[], finished=True, error="the generation has ended"))
        self._on_death()

    def _take_wanted(self) -> None:
        try:
            wanted = self._wanted.read_if_changed()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("The limits stay: what is wanted cannot be read: %s", error)
            return
        if wanted is not None:
            self._limits, self._batching, self._revision = wanted.limits, wanted.batching, wanted.revision
            self._generator.take(wanted.limits)

    def _most(self, held: float) -> int:
        """How many may run, while the first in the line waits for so many seconds."""
        return self._size.allowed(self._limits, self._batching, held=held)

    def _post(self) -> None:
        running, waiting, now = self.line.running, self.line.waiting, time.monotonic()
        self._size.look(self._limits, self._batching, now=now, running=running, waiting=waiting)
        self.metrics.batch.set(self._most(0))
        usage = self.line.held / self._generator.room
        self._guessing.count()
        guessed = self._guessing.total
        self.metrics.running.set(running)
        self.metrics.waiting.set(waiting)
        self.metrics.kv_usage.set(usage)
        self._board.post(
            Notice(
                revision=self._revision,
                steps=self._steps,
                running=running,
                waiting=waiting,
                kv_usage=usage,
                at=now,
                drafts=guessed.drafts,
                draft_tokens=guessed.tokens,
                accepted_tokens=guessed.accepted,
            )
        )

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = f"{scope['method']} {scope['path']}"
        method = "DELETE" if scope["path"].startswith(CONVERSATIONS) else METHODS.get(scope["path"])
        if method is not None and scope["method"] != method:
            body = error_body(405, f"This endpoint takes {method}.", kind="method_not_allowed")
            await answer(send, 405, body, {"allow": method})
        elif call == "GET /health":
            await answer(send, 200 if self._generator.alive() else 503, {})
        elif call == "GET /v1/models":
            entry = {
                "id": self.model,
                "object": "model",
                "owned_by": "trimtab",
                "max_model_len": self._generator.context,
            }
            await answer(send, 200, {"object": "list", "data": [entry]})
        elif call == "GET /metrics":
            text = await asyncio.to_thread(generate_latest, self._registry)
            headers = [(b"content-type", CONTENT_TYPE_LATEST.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": text})
        elif call == "GET /openapi.json":
            await answer(send, 200, document())
        elif call == "POST /v1/completions":
            await self._serve(read_completion, scope, receive, send)
        elif call == "POST /v1/chat/completions":
            await self._serve(read_chat, scope, receive, send)
        elif call.startswith(f"DELETE {CONVERSATIONS}"):
            await self.sharing.end(scope, send)
        else:
            await answer(send, 404, error_body(404, "There is no such endpoint.", kind="not_found"))

    async def _serve(
        self, read: Callable[[object], Wish | BadRequest], scope: Scope, receive: Receive, send: Send
    ) -> None:
        wish = await self._wish(read, receive)
        tokens = wish if isinstance(wish, BadRequest) else await self._tokens(wish)
        if isinstance(wish, BadRequest) or isinstance(tokens, BadRequest):
            bad = wish if isinstance(wish, BadRequest) else tokens
            assert isinstance(bad, BadRequest)
            status = 404 if bad.field == "model" else 400
            await answer(send, status, error_body(status, bad.message, kind="invalid_request_error", field=bad.field))
            return
        wish = self.sharing.owned(wish, scope)
        working = asyncio.create_task(self._answer(wish, tokens, self._name(wish, scope), send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _wish(self, read: Callable[[object], Wish | BadRequest], receive: Receive) -> Wish | BadRequest:
        parts = []
        while True:
            message = await receive()
            parts.append(message.get("body") or b"")
            if not message.get("more_body"):
                break
        try:
            document = json.loads(b"".join(parts))
        except (ValueError, RecursionError) as error:
            return BadRequest(field=None, message=f"The body is not JSON: {error}"[:300])
        wish = read(document)
        if isinstance(wish, Wish) and wish.model not in (None, self.model):
            return BadRequest(field="model", message=f"The model `{str(wish.model)[:100]}` is not served here.")
        return wish

    async def _tokens(self, wish: Wish) -> list[int] | BadRequest:
        field = "messages" if wish.kind == "chat" else "prompt"
        try:
            tokens = await asyncio.to_thread(self._generator.encode, wish)
        except Exception as error:  # noqa: BLE001 - templates raise whatever they like about the messages
            return BadRequest(field=field, message=f"The prompt cannot be used: {error}"[:300])
        asked = wish.most_tokens or 1
        if not tokens:
            return BadRequest(field=field, message="The prompt has no tokens.")
        if len(tokens) + asked > self._generator.context:
            return BadRequest(
                field=field,
                message=f"{len(tokens)} tokens of the prompt and {asked} of the answer are more than the"
                f" {self._generator.context} that fit.",
            )
        return tokens

    def _name(self, wish: Wish, scope: Scope) -> str:
        """Unique, even where a client sends the same `X-Request-Id` twice; with that in it where it is one of ours."""
        key = key_of(header(scope, "x-request-id") or "")
        own = f"{key.hex()}-{next(self._names)}" if key else str(next(self._names))
        return f"{'chatcmpl' if wish.kind == 'chat' else 'cmpl'}-{own}"

    async def _answer(self, wish: Wish, tokens: list[int], name: str, send: Send) -> None:
        request = Request(self, wish, tokens, name)
        try:
            if wish.stream:
                await request.stream(send)
            else:
                await request.whole(send)
        except GenerationError as error:
            self.metrics.ended("error")
            log.error("%s failed: %s", request.head.name, error)
            await request.fail(send)
        except asyncio.CancelledError:
            self.metrics.ended("abort")
            raise

    # What a request asks of its surroundings.

    async def generate(self, name: str, tokens: list[int], wish: Wish) -> AsyncGenerator[Output, None]:
        """Outputs as they come; several at once where the reader is slow, so that nothing piles up."""
        most = wish.most_tokens or self._generator.context - len(tokens)
        came = time.monotonic()
        async with self.line.turn(len(tokens) + most), self.sharing.running(wish) as scope:
            taken_up = time.monotonic()
            self.metrics.queue.observe(taken_up - came)
            self._starts.post(name, taken_up)
            latest: list[Output] = []
            news = asyncio.Event()
            at = 0.0

            def take(output: Output) -> None:
                nonlocal at
                self._steps += 1
                now, new = time.monotonic(), len(output.tokens) - (len(latest[0].tokens) if latest else 0)
                if latest and new > 0:
                    self._size.note([(now - at) / new] * new)
                at = now
                latest[:] = [output]
                news.set()

            self._post()
            if not self._generator.alive():
                raise GenerationError("the generation has ended")
            finished = False
            self._taking[name] = take
            try:
                self._generator.submit(name, tokens, wish, most=most, scope=scope, on_output=take)
                while not finished:
                    await news.wait()
                    news.clear()
                    output = latest[0]
                    finished = output.finished
                    if output.error:
                        raise GenerationError(output.error)
                    yield output
            finally:
                del self._taking[name]
                if not finished:
                    self._generator.cancel(name)
        self._post()

    def decoder(self) -> Callable[[int], str]:
        return self._generator.decoder()

    def ends(self, token: int) -> bool:
        return token in self._generator.end_tokens


async def _gone(receive: Receive) -> Message:
    """Returns when the client has gone."""
    while (message := await receive())["type"] != "http.disconnect":
        pass
    return message

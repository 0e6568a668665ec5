"""What every request passes first: `vllm serve --middleware trimtab_engine.server.gate.Gate`.

A pure ASGI middleware, so that a token of a stream costs one more call of a function and no copy. It adds the endpoints
under /v1/optimization, says more in /health, refuses what would wait too long, and ends what takes too long. Everything
else is the engine's own server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from trimtab_engine.admission.decide import Load, admit, waiting
from trimtab_engine.admission.pace import Pace
from trimtab_engine.asgi.answers import App, Message, Receive, Scope, Send, answer, error_body, header
from trimtab_engine.asgi.exchange import End, Exchange
from trimtab_engine.asgi.rewrite import PRIORITISED, prioritised, rewritten
from trimtab_engine.config.model import Config
from trimtab_engine.engines.chain import Chain, chain_from_json
from trimtab_engine.engines.common.sharing import CONVERSATIONS
from trimtab_engine.engines.facts import Attention, EngineFacts
from trimtab_engine.engines.vllm.ask import answers_of, attention_of, likelihoods_of
from trimtab_engine.engines.vllm.live import facts_of
from trimtab_engine.semantic_cache.build import build
from trimtab_engine.server import endpoints
from trimtab_engine.server.cached import Cached
from trimtab_engine.server.control import Control
from trimtab_engine.server.gpu_view import GpuView
from trimtab_engine.server.health import Facts, degradations
from trimtab_engine.server.keeper import TICK_SECONDS, Keeper, State
from trimtab_engine.server.log import log_to_stderr
from trimtab_engine.server.metrics import Metrics
from trimtab_engine.server.model_check import ModelCheck
from trimtab_engine.server.openapi import PREFIX, merged
from trimtab_engine.server.salting import Salting
from trimtab_engine.server.speculating import Speculating
from trimtab_engine.shared.folder import CHAIN, SERVING, START, read_json, run_folder

log = logging.getLogger("trimtab_engine.gate")

# Endpoints of vLLM 0.32 that make the engine compute (`vllm/entrypoints`), and so are under admission.
COMPUTING = frozenset(
    {
        *("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"),
        *("/invocations", "/inference/v1/generate", "/pooling", "/classify", "/score", "/v1/score"),
        *("/rerank", "/v1/rerank", "/v2/rerank", "/v2/embed"),
    }
)
CLASS_HEADER = "x-request-class"


class Gate:
    """`app` is the engine's application. Everything is set up when the server starts, in its lifespan.

    vLLM's server makes the gate with the application alone; what is to be known of vLLM it has in its state then.
    `forget` gives up all keys and values that the engine keeps.
    """

    def __init__(
        self,
        app: App,
        *,
        engine: EngineFacts | None = None,
        folder: Path | None = None,
        metrics: Metrics | None = None,
        forget: Callable[[], object] | None = None,
    ) -> None:
        self.app = app
        self._engine = engine
        self._folder = folder
        self._metrics = metrics
        self._forget = forget
        self._refused_at: float | None = None
        self._pace = Pace(since=time.monotonic())
        self._pace_limits: tuple[int, int] | None = None
        self._places: dict[_Place, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            path = str(scope["path"]).removeprefix(str(scope.get("root_path") or ""))
            if path in COMPUTING and scope["method"] == "POST":
                await self._answer(path, scope, receive, send)
            elif path == "/health" and scope["method"] == "GET":
                await self._health(scope, receive, send)
            elif path == "/openapi.json" and scope["method"] == "GET":
                await self._openapi(scope, receive, send)
            elif self.salting is not None and self._ends_conversation(path, scope):
                await self.salting.sharing.end(scope, send)
            elif path.startswith(PREFIX):
                await endpoints.serve(self, path.removeprefix(PREFIX), scope, receive, send)
            else:
                await self.app(scope, receive, send)

    def _ends_conversation(self, path: str, scope: Scope) -> bool:
        """Whether a caller whom the engine would let in wants that; the others are the engine's to answer."""
        return path.startswith(CONVERSATIONS) and scope["method"] == "DELETE" and endpoints.may_ask(scope)

    # Starting and keeping up to date.

    def set_up(self, config: Config, folder: Path, engine: EngineFacts) -> None:
        """Begins with the limits of the start."""
        self.config = config
        self.engine = engine
        self.chain = chain_from_json(read_json(folder / CHAIN)) or Chain(engine=engine.name)
        self.metrics = self._metrics or Metrics()
        self.metrics.chain(self.chain)
        self.gpus = GpuView(folder, self.metrics.gpus)
        self.gpus.look()
        salted = engine.name == "vllm" and config.kv_reuse.enabled and config.kv_reuse.salt_vllm
        self.salting = Salting(config.kv_reuse) if salted else None
        self.attention: Attention | None = None
        if engine.attention is not None:
            self.take_attention(engine.attention)
        self.cached, self._cache_problem = self._make_cache()
        self.control = Control(
            config=config, folder=folder, capacity=engine.capacity, resting=engine.resting, metrics=self.metrics
        )
        self.model_check = ModelCheck(config.model)
        self.speculating = Speculating(
            config.speculation, folder=folder, metrics=self.metrics, method=engine.speculation
        )
        self.keeper: Keeper = Keeper(
            config=config,
            control=self.control,
            metrics=self.metrics.requests,
            folder=folder,
            engine=engine.name,
            gpus=self.gpus,
        )

    def _make_cache(self) -> tuple[Cached | None, str]:
        """The semantic cache where it is enabled, or why there is none; the server serves without it."""
        asked = self.config.semantic_cache
        if not asked.enabled:
            return None, ""
        try:
            cache = build(asked)
        except Exception as error:  # a library or a file is missing, or ONNX Runtime cannot read it
            log.exception("The semantic cache cannot be made")
            return None, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        scope = f"{self.config.model} {self.config.served_model_name or ''}"
        return Cached(cache, asked, scope=scope, metrics=self.metrics), ""

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        log_to_stderr()
        try:
            folder = self._folder or run_folder()
            config = Config.model_validate(read_json(folder / START))
            self.set_up(config, folder, self._engine or facts_of(scope["app"].state.vllm_config))
            if self._engine is None:  # our own engines do it when they start
                await self.model_check.look(partial(likelihoods_of, scope["app"].state))
                await self.speculating.prove(partial(answers_of, scope["app"].state))
            else:  # vLLM does it after us, for all that is there by then
                _freeze_heap()
            (folder / SERVING).touch()
        except Exception as error:  # the server would go on without us otherwise
            log.exception("The server does not start")
            await receive()
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        tasks = [asyncio.create_task(self._keep_ticking()), asyncio.create_task(self._keep_keeping())]
        if self.attention is None:
            tasks.append(asyncio.create_task(self._ask_for_attention(scope["app"].state)))
        if self.cached is not None:
            tasks.append(asyncio.create_task(self.cached.cache.keep_up()))
        try:
            await self.app(scope, receive, send)
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            if self.cached is not None:
                await self.cached.cache.close()
            await asyncio.to_thread(self.keeper.close)
            self.speculating.close()

    async def _ask_for_attention(self, state: Any) -> None:
        found = await attention_of(state)
        if found is not None:
            self.take_attention(found)

    def take_attention(self, attention: Attention) -> None:
        """Tells which kernel computes attention."""
        self.attention = attention
        self.metrics.attention(attention)
        log.info("%s", attention.sentence())

    async def _keep_ticking(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.control.tick)
                self.metrics.degraded(degradations(self.facts()))
                if self.salting is not None:
                    self.salting.sharing.tidy()
            except Exception:  # what fails now may work at the next look; requests go on
                log.exception("The settings could not be looked at")
            await asyncio.sleep(self.config.settings_interval_seconds)

    async def _keep_keeping(self) -> None:
        while True:
            try:
                await self.keeper.tick(self.state())
                self.speculating.look(time.monotonic())
            except Exception:  # as above
                log.exception("What is measured could not be brought up to date")
            await asyncio.sleep(TICK_SECONDS)

    # Requests that make the engine compute.

    def state(self) -> State:
        """The server at this moment."""
        return State(load=self.load(), kv_usage=self.control.notice.kv_usage)

    def load(self) -> Load:
        """What is there now."""
        notice = self.control.notice
        load = Load(
            inside=self.inside,
            running=notice.running,
            waiting=notice.waiting,
            seconds_per_completion=self._pace.seconds_per_completion(),
        )
        return replace(load, waited_seconds=self._waited(load))

    @property
    def inside(self) -> int:
        """Requests that were accepted and not answered."""
        return len(self._places)

    def _waited(self, load: Load) -> float:
        """How long the first of those that wait has: they are the last that came, unless classes change the order."""
        behind, wanted = waiting(load, self.control.wanted.limits), self.control.wanted
        if not behind or wanted.limits.max_wait_seconds is None or wanted.classes.ordered:
            return 0.0
        came = next(itertools.islice(self._places.values(), self.inside - behind, None))
        return time.monotonic() - came

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """From the semantic cache where it has an answer; a caller whom the engine would turn away never gets one."""
        if self.cached is not None and endpoints.may_ask(scope):
            await self.cached.serve(path, scope, receive, send, partial(self._compute, path))
        else:
            await self._compute(path, scope, receive, send)

    async def _compute(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._keep_pace()
        wanted = self.control.wanted
        rule = wanted.classes.rule(header(scope, CLASS_HEADER))
        refusal = admit(self.load(), wanted.limits, rule)
        if refusal is not None:
            self._refused_at = time.monotonic()
            self.metrics.refused(refusal.why)
            if self.keeper.watching is not None:
                self.keeper.watching.refused()
            body = error_body(429, refusal.message, kind=refusal.why.value)
            await answer(send, 429, body, {"retry-after": str(refusal.retry_after_seconds)})
            return
        place = _Place(self)
        watching = self.keeper.watching
        request = watching.begin(path, scope) if watching else None
        send = place.until_the_end_of(send)
        end: End | None = None
        try:
            # Once any class goes first, what a client says of its own priority no longer counts.
            ordered = wanted.classes.ordered and path in PRIORITISED
            changes = [prioritised(rule.priority)] if ordered else []
            if self.salting is not None:
                changes.append(self.salting.change(scope))
            app = rewritten(self.app, changes)
            end = await self._pass_on(app, scope, receive, request.watch.through(send) if request else send)
        finally:
            if watching is not None:
                watching.ended(request, end)
            place.leave()

    def come(self, place: _Place) -> None:
        self._places[place] = time.monotonic()

    def left(self, place: _Place) -> None:
        self._keep_pace()
        self._pace = self._pace.completed(full=self._full())
        del self._places[place]

    async def _pass_on(self, app: App, scope: Scope, receive: Receive, send: Send) -> End:
        server = self.config.server
        length = header(scope, "content-length")
        if length is not None and (not length.isdecimal() or int(length[:20]) > server.largest_body_bytes):
            message = f"The body of the request is longer than {server.largest_body_bytes} bytes."
            body = error_body(413, message, kind=End.TOO_LARGE.name.lower())
            await answer(send, 413, body, {"connection": "close"})
            return End.TOO_LARGE
        if length is not None and server.request_timeout_seconds is None:
            await app(scope, receive, send)
            return End.ANSWERED
        exchange = Exchange(
            receive, send, largest_body=server.largest_body_bytes, timeout=server.request_timeout_seconds
        )
        end = await exchange.run(app, scope)
        if end is End.TIMED_OUT:
            self.metrics.timed_out()
        return end

    def _full(self) -> bool:
        return self.inside >= self.control.wanted.limits.max_running_requests

    def _keep_pace(self) -> None:
        """What was measured under other limits says nothing about these."""
        now, wanted = time.monotonic(), self.control.wanted.limits
        limits = (wanted.max_running_requests, wanted.max_tokens_per_step)
        if limits != self._pace_limits:
            self._pace, self._pace_limits = Pace(since=now), limits
        self._pace = self._pace.at(now, full=self._full())

    async def forget(self, scope: Scope) -> bool:
        """Has the engine give up what it keeps of earlier requests; False where vLLM cannot, because some run."""
        if self._forget is not None:
            self._forget()
            return True
        return bool(await scope["app"].state.engine_client.reset_prefix_cache())

    # Health.

    def facts(self) -> Facts:
        """What health is decided from."""
        now, step = time.monotonic(), self.control.notice.at
        return Facts(
            settings_problem=self.control.settings_problem,
            seconds_since_refusal=None if self._refused_at is None else now - self._refused_at,
            seconds_since_step=now - step if step else None,
            inside=self.inside,
            fallback=" ".join(passed.message for passed in self.chain.passed),
            cache_problem=self._cache_problem or (self.cached.cache.problem if self.cached else ""),
            gpu_problem=self.gpus.problem,
            fewer_gpus=self.gpus.fewer,
            guessing_problem=self.speculating.trouble,
            model_problem=self.model_check.problem,
        )

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The engine's own answer decides the status; ours says how well it serves."""
        status, _ = await self._heard(scope, receive)
        reasons = degradations(self.facts())
        state = "failing" if status != 200 else "degraded" if reasons else "ok"
        body = {
            "status": state,
            "engine": self.engine.name,
            "attention": self.attention.as_json() if self.attention else None,
            "gpus": self.gpus.health(),
            "speculation": self.speculating.brief(),
            "reasons": {reason.value: text for reason, text in reasons.items()},
        }
        await answer(send, status, body)

    # What the engine says of itself.

    async def _openapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The engine's own document and our endpoints in it."""
        status, content = await self._heard(scope, receive)
        document = await asyncio.to_thread(merged, content if status == 200 else None, self.control.capacity)
        await answer(send, 200, document)

    async def _heard(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        """The status and the body of the application's answer, which goes no further; 503 where it gives none."""
        status, parts = 503, list[bytes]()

        async def listen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            else:
                parts.append(message.get("body") or b"")

        await self.app(scope, receive, listen)
        return status, b"".join(parts)


class _Place:
    """The place of one request inside. It is free again before the client sees the end of its answer: one who asks
    again at once finds it so, and the application may still have to tidy up."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._taken = True
        gate.come(self)

    def until_the_end_of(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self.leave()
            await send(message)

        return sending

    def leave(self) -> None:
        if self._taken:
            self._taken = False
            self._gate.left(self)


def _freeze_heap() -> None:
    """What the start made is no garbage: looked at no more, it neither makes collections long nor puts them off.

    Python collects the oldest generation once a quarter of it is new (the `gc` module's documentation), and with a
    hundred thousand objects of imported libraries in it, closed connections would be kept for minutes.
    """
    gc.collect()
    gc.freeze()

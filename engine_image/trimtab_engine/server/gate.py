"""What every request passes first: `vllm serve --middleware trimtab_engine.server.gate.Gate`.

A pure ASGI middleware, so that a token of a stream costs one more call of a function and no copy. It adds the endpoints
under /v1/optimization, says more in /health, refuses what would wait too long, and ends what takes too long. Everything
else is the engine's own server's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from trimtab_engine.admission.decide import admit
from trimtab_engine.asgi.answers import App, Message, Receive, Scope, Send, answer, error_body, header
from trimtab_engine.asgi.exchange import End, Exchange
from trimtab_engine.asgi.rewrite import PRIORITISED, prioritised, rewritten
from trimtab_engine.config.model import Config
from trimtab_engine.engines.chain import Chain, chain_from_json
from trimtab_engine.engines.common.sharing import CONVERSATIONS
from trimtab_engine.engines.facts import Attention, EngineFacts
from trimtab_engine.engines.vllm.ask import answers_of, likelihoods_of
from trimtab_engine.engines.vllm.live import facts_of
from trimtab_engine.semantic_cache.build import build
from trimtab_engine.server import endpoints
from trimtab_engine.server.cached import Cached
from trimtab_engine.server.control import Control
from trimtab_engine.server.gpu_view import GpuView
from trimtab_engine.server.health import Facts, degradations
from trimtab_engine.server.inside import Inside
from trimtab_engine.server.keeper import Keeper, State
from trimtab_engine.server.lifespan import live
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
    `forget` gives up all keys and values that the engine keeps; `clock` tells seconds as the engine's steps do.
    """

    def __init__(
        self,
        app: App,
        *,
        engine: EngineFacts | None = None,
        folder: Path | None = None,
        metrics: Metrics | None = None,
        forget: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.clock = clock
        self._engine = engine
        self._folder = folder
        self._metrics = metrics
        self._forget = forget
        self._refused_at: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(self, scope, receive, send)
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
        self.inside = Inside(self.control, self.clock)
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

    async def begin(self, scope: Scope) -> None:
        """Sets everything up as the start wrote it down, and tells that this server serves. `scope` is the lifespan's;
        vLLM's has its application in it.
        """
        folder = self._folder or run_folder()
        config = Config.model_validate(read_json(folder / START))
        self.set_up(config, folder, self._engine or facts_of(scope["app"].state.vllm_config))
        if self._engine is None:  # our own engines do it when they start
            state = scope["app"].state
            await self.model_check.look(partial(likelihoods_of, state))
            await self.speculating.prove(partial(answers_of, state))
        (folder / SERVING).touch()

    async def close(self) -> None:
        """Gives up what `begin` took."""
        if self.cached is not None:
            await self.cached.cache.close()
        await asyncio.to_thread(self.keeper.close)
        self.speculating.close()

    def take_attention(self, attention: Attention) -> None:
        """Tells which kernel computes attention."""
        self.attention = attention
        self.metrics.attention(attention)
        log.info("%s", attention.sentence())

    # Requests that make the engine compute.

    def state(self) -> State:
        """The server at this moment."""
        return State(load=self.inside.load(), kv_usage=self.control.notice.kv_usage)

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """From the semantic cache where it has an answer; a caller whom the engine would turn away never gets one."""
        if self.cached is not None and endpoints.may_ask(scope):
            await self.cached.serve(path, scope, receive, send, partial(self._compute, path))
        else:
            await self._compute(path, scope, receive, send)

    async def _compute(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = self.control.wanted
        rule = wanted.classes.rule(header(scope, CLASS_HEADER))
        refusal = admit(self.inside.load(), wanted.limits, rule)
        if refusal is not None:
            self._refused_at = self.clock()
            self.metrics.refused(refusal.why)
            if self.keeper.watching is not None:
                self.keeper.watching.refused()
            body = error_body(429, refusal.message, kind=refusal.why.value)
            await answer(send, 429, body, {"retry-after": str(refusal.retry_after_seconds)})
            return
        watching = self.keeper.watching
        request = watching.begin(path, scope) if watching else None
        place = self.inside.come()
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

    async def forget(self, scope: Scope) -> bool:
        """Has the engine give up what it keeps of earlier requests; False where vLLM cannot, because some run."""
        if self._forget is not None:
            self._forget()
            return True
        return bool(await scope["app"].state.engine_client.reset_prefix_cache())

    # Health.

    def facts(self) -> Facts:
        """What health is decided from."""
        now, step = self.clock(), self.control.notice.at
        return Facts(
            settings_problem=self.control.settings_problem,
            seconds_since_refusal=None if self._refused_at is None else now - self._refused_at,
            seconds_since_step=now - step if step else None,
            inside=len(self.inside),
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

"""The OpenAI-compatible HTTP server of the emulated engine, with the shapes of vLLM 0.32."""

from __future__ import annotations

import os
import random
import time
import uuid
import zlib
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import ENGINE_VERSION
from .config import EngineConfig
from .engine import Engine, EngineStoppedError, Mailbox, Prompt
from .faults import Faults
from .metrics import EngineMetrics
from .scheduler import Finish
from .shapes import BUSY_ENGINE, DEAD_ENGINE, Call, error_body, model_cards

if TYPE_CHECKING:
    from .live import LiveLayer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_UNCOUNTED = {"/metrics", "/health", "/load", "/ping", "/version", "/server_info"}
_MOST_BODY_BYTES = 64 << 20
# By which `trimtab-engine serve` starts an engine whose limits change (`trimtab_engine.engines.vllm.command`).
_LIVE_SCHEDULER = "trimtab_engine.engines.vllm.scheduler.live_scheduler"


class RefusedError(Exception):
    """A request that is answered with an error object."""

    def __init__(self, status: int, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, param)


class Api:
    """Handlers over one engine."""

    def __init__(self, config: EngineConfig, faults: Faults) -> None:
        self.config = config
        self.metrics = EngineMetrics(config)
        self.engine = Engine(config, self.metrics, faults)
        self.live = self._live_layer()
        self._faults = faults
        self._random = random.Random(faults.seed)
        self._started = int(time.time())
        self._pod = os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or "unknown"
        flags = repr(sorted(config.flags.items()))
        self._fingerprint = f"vllm-{ENGINE_VERSION}-{zlib.crc32(flags.encode()):08x}"

    def application(self) -> web.Application:
        """The aiohttp application; the caller runs `engine.run()`."""
        gates = [self.live.gate] if self.live is not None else []
        application = web.Application(middlewares=[*gates, self._measured], client_max_size=_MOST_BODY_BYTES)
        application.on_response_prepare.append(self._name_pod)
        application.router.add_post("/v1/completions", self.completions)
        application.router.add_post("/v1/chat/completions", self.chat)
        application.router.add_get("/v1/models", self.models)
        application.router.add_get("/health", self.health)
        application.router.add_get("/ping", self.health)
        application.router.add_post("/ping", self.health)
        application.router.add_get("/version", self.version)
        application.router.add_get("/load", self.load)
        application.router.add_get("/metrics", self.metrics_page)
        return application

    def _live_layer(self) -> LiveLayer | None:
        if self.config.flags.get("scheduler_cls") != _LIVE_SCHEDULER:
            return None
        from .live import LiveLayer  # the image's package is there when the image's program has started us

        return LiveLayer(self.engine, self.metrics.registry)

    @web.middleware
    async def _measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else "none"
        if path in _UNCOUNTED:
            return await handler(request)
        began = time.perf_counter()
        status, sent = 500, 0
        try:
            self._authorised(request)
            response = await handler(request)
            status, sent = response.status, response.content_length or 0
        except RefusedError as refused:
            status = refused.status
            response = web.json_response(refused.body, status=status)
        except web.HTTPException as refused:
            status = refused.status
            response = web.json_response({"detail": refused.reason}, status=status)
        finally:
            self.metrics.observe_http(
                method=request.method,
                handler=path,
                status=status,
                seconds=time.perf_counter() - began,
                received=request.content_length or 0,
                sent=sent,
            )
        return response

    async def _name_pod(self, _: web.Request, response: web.StreamResponse) -> None:
        """Says which pod answered; the engine does not, but a load generator's log is more useful with it."""
        response.headers["x-pod-name"] = self._pod

    def _authorised(self, request: web.Request) -> None:
        keys = self.config.api_keys
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if keys and request.path.startswith("/v1") and given not in keys:
            raise web.HTTPUnauthorized(reason="Unauthorized")

    async def health(self, _: web.Request) -> web.Response:
        """200 with an empty body, while the process lives (a hung engine included, as for the engine itself)."""
        return web.Response()

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": ENGINE_VERSION})

    async def load(self, _: web.Request) -> web.Response:
        return web.json_response({"server_load": self.engine.in_flight})

    async def metrics_page(self, _: web.Request) -> web.Response:
        kind = "text/plain; version=1.0.0; charset=utf-8"
        return web.Response(body=self.metrics.text(), headers={"Content-Type": kind})

    async def models(self, _: web.Request) -> web.Response:
        """The model cards, as `/v1/models` lists them."""
        cards = model_cards(
            self.config.served_model_names,
            root=self.config.model,
            created=self._started,
            max_model_len=self.config.limits.max_model_len,
        )
        return web.json_response(cards)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        body = await self._body(request)
        prompts = self._prompts(body.get("prompt"))
        return await self._answer(request, body, prompts, chat=False)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        body = await self._body(request)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise RefusedError(400, "messages: Field required", param="messages")
        # The chat template of the small Llama that the tests serve with the real engine.
        text = "".join(f"{message.get('role', '')}: {_content(message)}\n" for message in messages) + "assistant: "
        return await self._answer(request, body, [self._text(text)], chat=True)

    async def _body(self, request: web.Request) -> dict[str, Any]:
        try:
            body = await request.json()
        except ValueError as error:
            raise RefusedError(400, f"JSON decode error: {error}") from error
        if not isinstance(body, dict):
            raise RefusedError(400, "Input should be a valid dictionary")
        return body

    def _text(self, text: str) -> Prompt:
        return Prompt(text.encode(), self.config.profile.bytes_per_prompt_token)

    def _prompts(self, given: Any) -> list[Prompt]:
        """The four forms of `prompt`: a text, texts, tokens, lists of tokens."""
        if isinstance(given, str) and given:
            return [self._text(given)]
        if isinstance(given, list) and given:
            if all(isinstance(item, str) for item in given):
                return [self._text(item) for item in given]
            if all(isinstance(item, int) for item in given):
                return [Prompt(array("q", given).tobytes(), 8.0)]
            if all(isinstance(item, list) and all(isinstance(token, int) for token in item) for item in given):
                return [Prompt(array("q", item).tobytes(), 8.0) for item in given]
        raise RefusedError(400, "Either prompt or prompt_embeds must be provided and non-empty.", param="prompt")

    def _check(self, body: dict[str, Any]) -> str:
        model = body.get("model") or self.config.served_model_names[0]
        if model not in self.config.served_model_names:
            aliases = ", ".join(self.config.served_model_names)
            raise RefusedError(404, f"The model `{model}` does not exist. Valid aliases: {aliases}.", param="model")
        if body.get("stream_options") and not body.get("stream"):
            raise RefusedError(400, "Stream options can only be defined when `stream=True`.", param="stream_options")
        most = self.config.max_num_queued_reqs
        if most is not None and self.engine.in_flight >= most:
            self.metrics.rejections["max_num_queued_reqs"].inc()
            raise RefusedError(503, BUSY_ENGINE)
        most = self.config.max_num_queued_tokens
        if most is not None and self.engine.waiting_prompt_tokens >= most:
            self.metrics.rejections["max_num_queued_tokens"].inc()
            raise RefusedError(503, BUSY_ENGINE)
        if self._random.random() < self._faults.error_rate:
            raise RefusedError(500, DEAD_ENGINE)
        return str(model)

    def _output_tokens(self, body: dict[str, Any], prompt: Prompt, *, chat: bool) -> int:
        """How many tokens to make."""
        longest = self.config.limits.max_model_len
        asked = body.get("max_completion_tokens") if chat else None
        if asked is None:
            asked = body.get("max_tokens", None if chat else 16)
        if asked is not None and (not isinstance(asked, int) or asked < 1):
            problem = f"max_tokens must be at least 1, got {asked}. (parameter=max_tokens, value={asked})"
            raise RefusedError(400, problem, param="max_tokens")
        if prompt.tokens > longest:
            raise RefusedError(
                400,
                f"This model's maximum context length is {longest} tokens. However, your prompt contains at least "
                f"{longest + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce "
                f"the length of the input prompt. (parameter=input_tokens, value={longest + 1})",
                param="input_tokens",
            )
        room = longest - prompt.tokens
        if room < 1:
            raise RefusedError(400, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)")
        # A limit beyond the context is cut to what fits, as by the engine.
        return min(room, asked or room)

    async def _answer(
        self, request: web.Request, body: dict[str, Any], prompts: list[Prompt], *, chat: bool
    ) -> web.StreamResponse:
        model = self._check(body)
        sizes = [self._output_tokens(body, prompt, chat=chat) for prompt in prompts]
        copies = int(body.get("n") or 1)
        greedy = body.get("temperature", 1.0) == 0
        options = body.get("stream_options") or {}
        seeds = [
            self.engine.prompt_seed(prompt, greedy=greedy, seed=body.get("seed"), source=self._random)
            for prompt in prompts
            for _ in range(copies)
        ]
        call = Call(
            id=f"{'chatcmpl' if chat else 'cmpl'}-{request.headers.get('X-Request-Id') or uuid.uuid4().hex[:16]}",
            chat=chat,
            model=model,
            created=int(time.time()),
            fingerprint=self._fingerprint,
            stream=bool(body.get("stream")),
            include_usage=bool(options.get("include_usage")) or self.config.enable_force_include_usage,
            continuous_usage=bool(options.get("continuous_usage_stats")),
            prompt_details=self.config.enable_prompt_tokens_details,
            mailbox=Mailbox(len(seeds)),
            seeds=seeds,
            copies=copies,
        )
        try:
            for index, seed in enumerate(seeds):
                prompt, output = prompts[index // copies], sizes[index // copies]
                call.requests.append(
                    self.engine.submit(
                        prompt,
                        request_id=f"{call.id}-{index}",
                        mailbox=call.mailbox,
                        index=index,
                        seed=seed,
                        output_tokens=output,
                        max_tokens=output,
                        priority=int(body.get("priority") or 0),
                    )
                )
            if copies > 1:
                for index, item in enumerate(call.requests):
                    first = index - index % copies
                    item.siblings = call.requests[first : first + copies]
            return await (self._stream(request, call) if call.stream else self._whole(call))
        except ValueError as error:
            raise RefusedError(400, str(error)) from error
        except EngineStoppedError as error:
            raise RefusedError(500, str(error)) from error
        finally:
            self.engine.abort([item for item in call.requests if item.finished is None])

    async def _whole(self, call: Call) -> web.Response:
        finish: list[str | None] = [None] * len(call.requests)
        while None in finish:
            for index, tokens, ended in await call.mailbox.get():
                call.mailbox.counts[index] += tokens
                if ended is not None:
                    finish[index] = str(ended)
        return web.json_response(call.whole(finish))

    async def _stream(self, request: web.Request, call: Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.enable_chunked_encoding()
        cut = self._random.random() < self._faults.cut_rate
        left = len(call.requests)
        while left:
            arrived = await call.mailbox.get()
            lines = []
            if not response.prepared:
                await response.prepare(request)
                lines.append(call.opening())
            for index, tokens, ended in merged(arrived):
                lines.append(call.chunk(index, tokens, str(ended) if ended is not None else None))
                left -= ended is not None
            await response.write("".join(lines).encode())
            if cut and request.transport is not None:
                request.transport.abort()
                return response
        await response.write(call.closing())
        return response


def merged(arrived: Sequence[tuple[int, int, Finish | None]]) -> Iterator[tuple[int, int, Finish | None]]:
    """Tokens of a sequence that were made before the last ones were fetched leave as one event, as by the engine."""
    counts: dict[int, int] = {}
    ends: dict[int, Finish | None] = {}
    for index, tokens, ended in arrived:
        counts[index] = counts.get(index, 0) + tokens
        ends[index] = ended
    for index, tokens in counts.items():
        yield index, tokens, ends[index]


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)

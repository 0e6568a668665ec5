"""The model and its generation, by the continuous batching of transformers (5.19, `generation/continuous_batching`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from trimtab_engine.config.engines import BatchingConfig
from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.engines.common.metrics import EngineMetrics, PrefixCache
from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.engines.common.tokenizer import Tokenizer
from trimtab_engine.engines.pytorch import scoped
from trimtab_engine.engines.pytorch.alone import Alone, Solo
from trimtab_engine.engines.pytorch.attention import settle
from trimtab_engine.limits.limits import Limits
from trimtab_engine.speculation.acceptance import Guessed

log = logging.getLogger("trimtab_engine.pytorch")


def load(model: str, config: BatchingConfig) -> Any:
    """The model as transformers loads it, ready to compute."""
    dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()


@dataclass(kw_only=True, eq=False)
class _Running:
    """A request: its name with its scope, what is asked, the tokens that it said before it came into the batch, tokens
    of its prompt that were there, and what generates it alone (None: the batch does)."""

    whole: str
    tokens: list[int]
    wish: Wish
    most: int
    on_output: Callable[[Output], None]
    said: list[int] = field(default_factory=list)
    reused: int = 0
    solo: Solo | None = None


class Generator:
    """`loaded` is the model, on the device where it computes. `start` it in the event loop that takes the outputs.

    Where `speculation` asks for guesses, a request that runs alone is generated apart from the batch; `unable` tells
    why that cannot be.
    """

    def __init__(
        self,
        model: str,
        config: BatchingConfig,
        *,
        loaded: Any,
        reuse: bool,
        speculation: SpeculationConfig | None = None,
        unable: str = "",
    ) -> None:
        self._config = config
        self._model = loaded
        self.attention = settle(loaded, config.attention)
        self._tokenizer = Tokenizer(model, int(self._model.config.vocab_size))
        longest = int(getattr(self._model.config, "max_position_embeddings", 0) or config.kv_cache_tokens)
        self.page = config.page_tokens
        self.room = config.kv_cache_tokens // self.page * self.page
        self.context = min(longest, self.room)
        self.end_tokens = self._end_tokens()
        self._manager: Any = None
        self._reuses = reuse and scoped.possible()
        if reuse and not self._reuses:
            log.warning("No text goes on from an earlier one: this release of transformers is not known well enough.")
        self._prefixes: PrefixCache | None = None
        self._running: dict[str, _Running] = {}
        self._unable = unable
        self._speculates = True
        self._alone: Alone | None = None
        if speculation is not None and speculation.method != "off" and not unable:
            self._alone, self._unable = _alone(loaded, config, speculation)

    def start(self) -> None:
        """Begins to generate, in a thread of its own."""
        if self._alone is not None:  # else it may be a process without an event loop
            self._loop = asyncio.get_running_loop()
            self._alone.start()
        # Only what is set here can be set by a request later.
        generation = GenerationConfig(do_sample=True, temperature=0.9, top_p=0.99, top_k=50)
        generation.eos_token_id, generation.pad_token_id = self.end_tokens or None, 0
        batching = ContinuousBatchingConfig(
            page_size=self.page,
            num_blocks=self.room // self.page,
            max_batch_tokens=self._config.tokens_per_step,
            max_requests_per_batch=self._config.running_requests,
            per_request_processors=True,
            allow_block_sharing=self._reuses,
            auto_switch_to_flash=False,
        )
        self._manager = self._model.init_continuous_batching(
            generation_config=generation, continuous_batching_config=batching
        )
        if self._reuses:
            scoped.within_scopes(self._manager, self._found)
        self._manager.start()

    def stop(self) -> None:
        if self._alone is not None:
            self._all_into_the_batch()
            self._alone.stop()
        self._manager.stop(block=True, timeout=10)

    def alive(self) -> bool:
        """Whether it generates."""
        return self._manager is not None and bool(self._manager.is_running())

    def take(self, limits: Limits) -> None:
        """The line before the generator keeps the requests that run; the others of the limits are fixed here."""

    def measure(self, metrics: EngineMetrics) -> None:
        self._prefixes = metrics.prefix_cache() if self._reuses else None

    def encode(self, wish: Wish) -> list[int]:
        """The tokens of the prompt. Raises ValueError where the model cannot take it."""
        return self._tokenizer.encode(wish)

    def decoder(self) -> Callable[[int], str]:
        return self._tokenizer.decoder()

    def submit(
        self,
        name: str,
        tokens: list[int],
        wish: Wish,
        *,
        most: int,
        scope: int | None,
        on_output: Callable[[Output], None],
    ) -> None:
        """Begins a request; `on_output` is called in the event loop. Temperature 0 takes the likeliest token."""
        request = _Running(whole=scoped.named(scope, name), tokens=tokens, wish=wish, most=most, on_output=on_output)
        alone = self._alone if not self._running and wish.temperature == 0 and self._speculates else None
        self._running[name] = request
        if alone is not None and not alone.fault:
            self._begin_alone(alone, name, request)
        else:
            self._all_into_the_batch()
            self._into_the_batch(name, request)

    def cancel(self, name: str) -> None:
        """Ends a request; no output follows, so nobody waits for one."""
        request = self._running.pop(name, None)
        if request is None:
            return
        if request.solo is not None:
            request.solo.leaving.set()
            return
        self._manager.cancel_request(request.whole)
        with self._manager.output_router._lock:
            self._manager.output_router.result_handlers.pop(request.whole, None)

    def forget(self, scope: int) -> None:
        if self._reuses:
            self._manager.cancel_request(scoped.forgetting(scope))

    @property
    def unable(self) -> str:
        return self._unable or (self._alone.fault if self._alone else "")

    @property
    def guessed(self) -> Guessed:
        return self._alone.guessed if self._alone else Guessed()

    def speculate(self, on: bool) -> None:
        """Where it shall not, a request that runs alone goes on in the batch."""
        self._speculates = on
        if not on:
            self._all_into_the_batch()

    def _begin_alone(self, alone: Alone, name: str, request: _Running) -> None:
        def said(tokens: list[int], finished: bool) -> None:
            self._later(self._said_alone, name, request, tokens, finished)

        def left(tokens: list[int]) -> None:
            self._later(self._left_alone, name, request, tokens)

        ends = frozenset(() if request.wish.ignore_eos else self.end_tokens)
        request.solo = Solo(tokens=request.tokens, most=request.most, end_tokens=ends, said=said, left=left)
        alone.begin(request.solo)

    def _later(self, call: Callable[..., None], *given: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *given)

    def _said_alone(self, name: str, request: _Running, tokens: list[int], finished: bool) -> None:
        if self._running.get(name) is not request:
            return  # nobody waits for it any more
        if finished:
            del self._running[name]
        request.on_output(Output(tokens=tokens, finished=finished))

    def _left_alone(self, name: str, request: _Running, tokens: list[int]) -> None:
        if self._running.get(name) is request:
            request.said, request.solo = tokens, None
            try:
                self._into_the_batch(name, request)
            except RuntimeError as error:
                request.on_output(Output(tokens=tokens, finished=True, error=str(error)))

    def _all_into_the_batch(self) -> None:
        """A request that is generated alone leaves after its step, and goes on where the others are."""
        for request in tuple(self._running.values()):
            if request.solo is not None:
                request.solo.leaving.set()

    def _into_the_batch(self, name: str, request: _Running) -> None:
        greedy, wish, said = request.wish.temperature == 0, request.wish, request.said

        def deliver(result: Any) -> None:
            tokens, finished = [*said, *result.generated_tokens], bool(result.is_finished())
            if finished:
                self._running.pop(name, None)
            request.on_output(Output(tokens=tokens, finished=finished, error=result.error, reused=request.reused))

        self._manager.register_result_handler(request.whole, deliver)
        accepted = self._manager.add_request(
            [*request.tokens, *said],
            request_id=request.whole,
            max_new_tokens=request.most - len(said),
            streaming=True,
            eos_token_id=-1 if wish.ignore_eos or not self.end_tokens else self.end_tokens,
            temperature=1.0 if greedy else wish.temperature,
            top_p=1.0 if greedy else wish.top_p,
            top_k=1 if greedy else wish.top_k or self._model.config.vocab_size,
        )
        if accepted is None:
            self._running.pop(name, None)
            raise RuntimeError("The generation has ended.")

    def _found(self, name: str, tokens: int, reused: int) -> None:
        """In the thread that generates, before the first output."""
        request = self._running.get(name)
        if request is not None:
            request.reused = reused
        if self._prefixes is not None:  # in the process that serves
            self._prefixes.queries.inc(tokens)
            self._prefixes.hits.inc(reused)

    def _end_tokens(self) -> list[int]:
        found = self._model.generation_config.eos_token_id
        if found is None:
            found = self._tokenizer.end_token
        return [] if found is None else [int(token) for token in (found if isinstance(found, list) else [found])]


def open_generator(model: str, config: BatchingConfig, *, reuse: bool, speculation: SpeculationConfig) -> Generator:
    """On a GPU where torch finds one, and on the CPU elsewhere."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Generator(model, config, loaded=load(model, config).to(device), reuse=reuse, speculation=speculation)


def _alone(model: Any, config: BatchingConfig, speculation: SpeculationConfig) -> tuple[Alone | None, str]:
    """What generates a request that runs alone, or why nothing does."""
    if not scoped.possible():
        return None, "this release of transformers is not known well enough"
    try:
        draft = None
        if speculation.method == "draft":
            draft = load(str(speculation.draft_model), config).to(model.device)
        return Alone(model, speculation, draft=draft), ""
    except Exception as error:
        log.exception("The draft model cannot be used")
        return None, f"the draft model cannot be used: {error}"[:300]

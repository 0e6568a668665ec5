"""The model and its generation, by the continuous batching of transformers (5.19, `generation/continuous_batching`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from trimtab_engine.config.model import BatchingConfig
from trimtab_engine.engines.common.metrics import EngineMetrics, PrefixCache
from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.engines.common.tokenizer import Tokenizer
from trimtab_engine.engines.pytorch import scoped
from trimtab_engine.engines.pytorch.attention import settle
from trimtab_engine.limits.limits import Limits

log = logging.getLogger("trimtab_engine.pytorch")


def load(model: str, config: BatchingConfig) -> Any:
    """The model as transformers loads it, ready to compute."""
    dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()


@dataclass(kw_only=True, eq=False)
class _Running:
    """A request: its name with its scope, and tokens of its prompt that were there."""

    whole: str
    reused: int = 0


class Generator:
    """`loaded` is the model, on the device where it computes. `start` it in the event loop that takes the outputs."""

    def __init__(self, model: str, config: BatchingConfig, *, loaded: Any, reuse: bool) -> None:
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

    def start(self) -> None:
        """Begins to generate, in a thread of its own."""
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
        greedy = wish.temperature == 0
        request = self._running[name] = _Running(whole=scoped.named(scope, name))

        def deliver(result: Any) -> None:
            tokens, finished = list(result.generated_tokens), bool(result.is_finished())
            if finished:
                self._running.pop(name, None)
            on_output(Output(tokens=tokens, finished=finished, error=result.error, reused=request.reused))

        self._manager.register_result_handler(request.whole, deliver)
        accepted = self._manager.add_request(
            tokens,
            request_id=request.whole,
            max_new_tokens=most,
            streaming=True,
            eos_token_id=-1 if wish.ignore_eos or not self.end_tokens else self.end_tokens,
            temperature=1.0 if greedy else wish.temperature,
            top_p=1.0 if greedy else wish.top_p,
            top_k=1 if greedy else wish.top_k or self._model.config.vocab_size,
        )
        if accepted is None:
            raise RuntimeError("The generation has ended.")

    def cancel(self, name: str) -> None:
        """Ends a request; no output follows, so nobody waits for one."""
        request = self._running.pop(name, None)
        if request is None:
            return
        self._manager.cancel_request(request.whole)
        with self._manager.output_router._lock:
            self._manager.output_router.result_handlers.pop(request.whole, None)

    def forget(self, scope: int) -> None:
        if self._reuses:
            self._manager.cancel_request(scoped.forgetting(scope))

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


def open_generator(model: str, config: BatchingConfig, *, reuse: bool) -> Generator:
    """On a GPU where torch finds one, and on the CPU elsewhere."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Generator(model, config, loaded=load(model, config).to(device), reuse=reuse)

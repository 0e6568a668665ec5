"""The model and its generation, by the continuous batching of transformers (5.19, `generation/continuous_batching`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from trimtab_engine.config.model import BatchingConfig
from trimtab_engine.engines.common.metrics import EngineMetrics
from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.engines.common.tokenizer import Tokenizer
from trimtab_engine.limits.limits import Limits


def load(model: str, config: BatchingConfig) -> Any:
    """The model as transformers loads it, ready to compute."""
    dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()


class Generator:
    """`loaded` is the model, on the device where it computes. `start` it in the event loop that takes the outputs."""

    def __init__(self, model: str, config: BatchingConfig, *, loaded: Any) -> None:
        self._config = config
        self._model = loaded
        self._tokenizer = Tokenizer(model, int(self._model.config.vocab_size))
        longest = int(getattr(self._model.config, "max_position_embeddings", 0) or config.kv_cache_tokens)
        self.page = config.page_tokens
        self.room = config.kv_cache_tokens // self.page * self.page
        self.context = min(longest, self.room)
        self.end_tokens = self._end_tokens()
        self._manager: Any = None

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
        )
        self._manager = self._model.init_continuous_batching(
            generation_config=generation, continuous_batching_config=batching
        )
        self._manager.start()

    def stop(self) -> None:
        self._manager.stop(block=True, timeout=10)

    def alive(self) -> bool:
        """Whether it generates."""
        return self._manager is not None and bool(self._manager.is_running())

    def take(self, limits: Limits) -> None:
        """The line before the generator keeps the requests that run; the others of the limits are fixed here."""

    def measure(self, metrics: EngineMetrics) -> None:
        """What there is to measure the API sees."""

    def encode(self, wish: Wish) -> list[int]:
        """The tokens of the prompt. Raises ValueError where the model cannot take it."""
        return self._tokenizer.encode(wish)

    def decoder(self) -> Callable[[int], str]:
        return self._tokenizer.decoder()

    def submit(
        self, name: str, tokens: list[int], wish: Wish, *, most: int, on_output: Callable[[Output], None]
    ) -> None:
        """Begins a request; `on_output` is called in the event loop. Temperature 0 takes the likeliest token."""
        greedy = wish.temperature == 0

        def deliver(result: Any) -> None:
            finished = bool(result.is_finished())
            on_output(Output(tokens=list(result.generated_tokens), finished=finished, error=result.error))

        self._manager.register_result_handler(name, deliver)
        accepted = self._manager.add_request(
            tokens,
            request_id=name,
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
        self._manager.cancel_request(name)
        with self._manager.output_router._lock:
            self._manager.output_router.result_handlers.pop(name, None)

    def _end_tokens(self) -> list[int]:
        found = self._model.generation_config.eos_token_id
        if found is None:
            found = self._tokenizer.end_token
        return [] if found is None else [int(token) for token in (found if isinstance(found, list) else [found])]


def open_generator(model: str, config: BatchingConfig) -> Generator:
    """On a GPU where torch finds one, and on the CPU elsewhere."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Generator(model, config, loaded=load(model, config).to(device))

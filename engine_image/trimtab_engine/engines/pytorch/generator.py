"""The model and its generation, by the continuous batching of transformers (5.19, `generation/continuous_batching`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from trimtab_engine.config.model import PytorchConfig
from trimtab_engine.engines.pytorch.protocol import Output
from trimtab_engine.engines.pytorch.requests import Wish


class Generator:
    """`start` it in the event loop that takes the outputs."""

    def __init__(self, model: str, config: PytorchConfig) -> None:
        self._config = config
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(device).eval()
        longest = int(getattr(self._model.config, "max_position_embeddings", 0) or config.kv_cache_tokens)
        self.room = config.kv_cache_tokens // config.page_tokens * config.page_tokens
        self.context = min(longest, self.room)
        self.end_tokens = self._end_tokens()
        self._manager: Any = None

    def start(self) -> None:
        """Begins to generate, in a thread of its own."""
        # Only what is set here can be set by a request later.
        generation = GenerationConfig(do_sample=True, temperature=0.9, top_p=0.99, top_k=50)
        generation.eos_token_id, generation.pad_token_id = self.end_tokens or None, 0
        batching = ContinuousBatchingConfig(
            page_size=self._config.page_tokens,
            num_blocks=self._config.kv_cache_tokens // self._config.page_tokens,
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

    def encode(self, wish: Wish) -> list[int]:
        """The tokens of the prompt. Raises ValueError where the model cannot take it."""
        if wish.kind == "chat":
            if not self._tokenizer.chat_template:
                raise ValueError("The model has no chat template.")
            found = self._tokenizer.apply_chat_template(wish.prompt, add_generation_prompt=True, return_dict=True)
            return [int(token) for token in found["input_ids"]]
        if isinstance(wish.prompt, str):
            return [int(token) for token in self._tokenizer(wish.prompt).input_ids]
        tokens = [token for token in wish.prompt if isinstance(token, int)]
        if not all(0 <= token < self._model.config.vocab_size for token in tokens):
            raise ValueError(f"Tokens are numbers from 0 to {self._model.config.vocab_size - 1}.")
        return tokens

    def decoder(self) -> Callable[[int], str]:
        """Gives the text of one token after the other, whole characters at a time."""
        stream = DecodeStream(skip_special_tokens=True)
        return lambda token: stream.step(self._tokenizer.backend_tokenizer, token) or ""

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
            found = self._tokenizer.eos_token_id
        return [] if found is None else [int(token) for token in (found if isinstance(found, list) else [found])]

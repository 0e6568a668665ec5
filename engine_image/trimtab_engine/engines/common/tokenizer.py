"""Texts to tokens and back, by the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer

from trimtab_engine.engines.common.requests import Wish


class Tokenizer:
    """`vocabulary` bounds the numbers of tokens that a prompt may hold."""

    def __init__(self, model: str, vocabulary: int) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._vocabulary = vocabulary

    @property
    def end_token(self) -> int | None:
        found = self._tokenizer.eos_token_id
        return None if found is None else int(found)

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
        if not all(0 <= token < self._vocabulary for token in tokens):
            raise ValueError(f"Tokens are numbers from 0 to {self._vocabulary - 1}.")
        return tokens

    def decoder(self) -> Callable[[int], str]:
        """Gives the text of one token after the other, whole characters at a time."""
        stream = DecodeStream(skip_special_tokens=True)
        return lambda token: stream.step(self._tokenizer.backend_tokenizer, token) or ""

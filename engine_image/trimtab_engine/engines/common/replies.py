"""Answers of OpenAI's API, whole and in pieces, and the text on its way to them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from trimtab_engine.engines.common.requests import Wish

FinishReason = Literal["stop", "length"]


class Text:
    """Text that grows, up to the first of the stop texts, which is not part of it.

    What could be the beginning of a stop text is held back until it is known not to be.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """What may be shown now that `piece` has come."""
        if self.stopped:
            return ""
        text = self._held + piece
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        hold = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def rest(self) -> str:
        """What was held back, at the end."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text begin the stop text."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one request. `cached`: of the prompt, those that need not be computed."""

    prompt: int
    completion: int
    cached: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass(frozen=True, kw_only=True)
class Head:
    """What all parts of one answer share; `created` is in seconds since the epoch."""

    wish: Wish
    name: str
    model: str
    created: int

    def whole(self, text: str, finish: FinishReason, usage: Usage) -> dict[str, Any]:
        """The answer in one."""
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
        if self.wish.kind == "chat":
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        return {**self._common("chat.completion"), "choices": [choice], "usage": usage.as_json()}

    def first(self) -> Iterator[dict[str, Any]]:
        """What a stream begins with."""
        if self.wish.kind == "chat":
            yield self._piece({"role": "assistant", "content": ""}, None)

    def piece(self, text: str, finish: FinishReason | None) -> dict[str, Any]:
        """One piece of a stream."""
        return self._piece({"content": text} if text or finish is None else {}, finish, text)

    def last(self, usage: Usage) -> Iterator[dict[str, Any]]:
        """What a stream ends with."""
        if self.wish.include_usage:
            yield {**self._common("chat.completion.chunk"), "choices": [], "usage": usage.as_json()}

    def _piece(self, delta: dict[str, Any], finish: FinishReason | None, text: str = "") -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
        choice.update({"delta": delta} if self.wish.kind == "chat" else {"text": text})
        return {**self._common("chat.completion.chunk"), "choices": [choice]}

    def _common(self, chat: str) -> dict[str, Any]:
        kind = chat if self.wish.kind == "chat" else "text_completion"
        return {"id": self.name, "object": kind, "created": self.created, "model": self.model}

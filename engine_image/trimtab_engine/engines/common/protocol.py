"""What the API asks of a generator; each of our own engines has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trimtab_engine.engines.common.metrics import EngineMetrics
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.engines.facts import Attention
from trimtab_engine.limits.limits import Limits
from trimtab_engine.speculation.acceptance import Guessed


class GenerationError(RuntimeError):
    """The generator gave up on a request."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The tokens generated so far, and whether that is all; `error` tells why there are no more.

    `reused` are tokens of the prompt whose keys and values were there from an earlier text.
    """

    tokens: list[int]
    finished: bool
    error: str | None = None
    reused: int = 0


class Generator(Protocol):
    """What generates. `room` is in tokens, of prompts and of answers, that can be held at once, `page` their unit.

    `start` it in the event loop that takes the outputs. `take` gives it limits that changed, `measure` the metrics.
    Keys and values are shared within a `scope` only (None: with nobody), until it shall `forget` it. It guesses tokens
    ahead where it was made to, unless it is `unable` to, while it shall `speculate`; `guessed` is what came of it.
    """

    attention: Attention
    context: int
    room: int
    page: int
    end_tokens: list[int]

    @property
    def unable(self) -> str: ...
    @property
    def guessed(self) -> Guessed: ...
    def speculate(self, on: bool) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def alive(self) -> bool: ...
    def take(self, limits: Limits) -> None: ...
    def measure(self, metrics: EngineMetrics) -> None: ...
    def encode(self, wish: Wish) -> list[int]: ...
    def decoder(self) -> Callable[[int], str]: ...
    def cancel(self, name: str) -> None: ...
    def forget(self, scope: int) -> None: ...
    def submit(
        self,
        name: str,
        tokens: list[int],
        wish: Wish,
        *,
        most: int,
        scope: int | None,
        on_output: Callable[[Output], None],
    ) -> None: ...

"""What the API asks of a generator; `generator.Generator` is the one that there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trimtab_engine.engines.pytorch.requests import Wish


class GenerationError(RuntimeError):
    """The generator gave up on a request."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The tokens generated so far, and whether that is all; `error` tells why there are no more."""

    tokens: list[int]
    finished: bool
    error: str | None = None


class Generator(Protocol):
    """What generates: see `generator.Generator`."""

    context: int
    room: int
    end_tokens: list[int]

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def alive(self) -> bool: ...
    def encode(self, wish: Wish) -> list[int]: ...
    def decoder(self) -> Callable[[int], str]: ...
    def cancel(self, name: str) -> None: ...
    def submit(
        self, name: str, tokens: list[int], wish: Wish, *, most: int, on_output: Callable[[Output], None]
    ) -> None: ...

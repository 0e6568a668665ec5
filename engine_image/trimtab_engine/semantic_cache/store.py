"""Where the answers are: in this process, unless several share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trimtab_engine.semantic_cache.answer import Answer
from trimtab_engine.semantic_cache.embed import Vector


class StoreError(Exception):
    """The store does not answer, or not in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What others must know to find an answer. `expires_in` is in seconds."""

    key: str
    partition: str
    vector: Vector
    size: int
    expires_in: float


class Store(Protocol):
    """Every method may raise StoreError."""

    async def get(self, key: str) -> Answer | None: ...

    async def put(self, entry: Entry, answer: Answer) -> None: ...

    async def forget(self, keys: Sequence[str]) -> None:
        """Those that this process keeps no longer."""

    async def news(self) -> list[Entry]:
        """Entries since the last call, also those of this process; all that there are on the first call."""

    async def close(self) -> None: ...


class MemoryStore:
    """A dictionary; nobody else's entries ever come."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    async def get(self, key: str) -> Answer | None:
        return self._answers.get(key)

    async def put(self, entry: Entry, answer: Answer) -> None:
        self._answers[entry.key] = answer

    async def forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._answers.pop(key, None)

    async def news(self) -> list[Entry]:
        return []

    async def close(self) -> None:
        self._answers.clear()

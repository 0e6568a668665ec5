"""Many reads become one: callers that ask within a short while share one batched query (design, section 2).

Thousands of resources then cost Prometheus a bounded number of queries per interval instead of a set for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

G = TypeVar("G", bound=Hashable)
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Coalescer(Generic[G, T, K, R]):
    """Collects items of one group for `linger` seconds, reads them in one call, hands each caller its own result."""

    def __init__(
        self,
        read: Callable[[G, Sequence[T]], Awaitable[Mapping[K, R]]],
        key_of: Callable[[T], K],
        linger: float = 0.05,
    ) -> None:
        self._read = read
        self._key_of = key_of
        self._linger = linger
        self._open: dict[G, list[T]] = {}
        self._running: dict[G, asyncio.Task[Mapping[K, R]]] = {}

    async def get(self, group: G, item: T) -> R | None:
        """The result for `item`, or None when the batch had none for it."""
        if group not in self._open:
            self._open[group] = []
            self._running[group] = asyncio.create_task(self._run(group))
        self._open[group].append(item)
        results = await asyncio.shield(self._running[group])
        return results.get(self._key_of(item))

    async def _run(self, group: G) -> Mapping[K, R]:
        await asyncio.sleep(self._linger)
        items = self._open.pop(group)
        self._running.pop(group, None)
        return await self._read(group, items)

"""A keyed work queue: one worker at a time has a key, and however often it is asked for, once more is enough.

The idea is client-go's workqueue (add, get, done; de-duplication of what waits; a key that is added while it is worked
on is worked on again afterwards), with a time to run at instead of a rate limiter: each reconcile says when it wants to
be called next, and an event can only bring that forward.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")


class WorkQueue(Generic[K]):
    """Keys with a due time; `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._working: set[K] = set()
        self._again: dict[K, float] = {}
        self._changed = asyncio.Event()

    def add(self, key: K, delay: float = 0.0) -> None:
        """Work on `key` in `delay` seconds, or sooner when it is due sooner already."""
        at = self._clock() + max(delay, 0.0)
        if key in self._working:
            self._again[key] = min(at, self._again.get(key, at))
            return
        if at < self._due.get(key, float("inf")):
            self._due[key] = at
            self._count += 1
            heapq.heappush(self._heap, (at, self._count, key))
            self._changed.set()

    def forget(self, key: K) -> None:
        """Drop a key that no longer exists."""
        self._due.pop(key, None)
        self._again.pop(key, None)

    def __len__(self) -> int:
        return len(self._due)

    async def get(self) -> K:
        """The next due key; it belongs to the caller until `done`."""
        while True:
            self._changed.clear()
            wait = self._drop_outdated()
            if wait is not None and wait <= 0:
                _, _, key = heapq.heappop(self._heap)
                del self._due[key]
                self._working.add(key)
                return key
            try:
                await asyncio.wait_for(self._changed.wait(), timeout=wait)
            except TimeoutError:
                continue

    def _drop_outdated(self) -> float | None:
        """Seconds until the first valid entry is due; None when there is none."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._due.get(key) == at:
                return at - self._clock()
            heapq.heappop(self._heap)
        return None

    def done(self, key: K, next_delay: float | None = None) -> None:
        """Give a key back, to be called again in `next_delay` seconds, or sooner when it was asked for meanwhile."""
        self._working.discard(key)
        again = self._again.pop(key, None)
        if next_delay is not None:
            self.add(key, next_delay)
        if again is not None:
            self.add(key, again - self._clock())


async def run_worker(
    queue: WorkQueue[K],
    reconcile: Callable[[K], Awaitable[float | None]],
    on_error: Callable[[K, Exception], float],
) -> None:
    """Work on keys for ever. `reconcile` returns the seconds to its next call; `on_error` the back-off after one."""
    while True:
        key = await queue.get()
        delay: float | None = None
        try:
            delay = await reconcile(key)
        except Exception as error:  # noqa: BLE001 - one resource's failure must never end the worker
            delay = on_error(key, error)
        finally:
            queue.done(key, delay)

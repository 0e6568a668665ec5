"""The line before the generator: who runs is decided anew whenever a request ends or the limits change.

The generator of transformers 5.19 stops for good when its cache cannot hold what it was given, so a request runs only
while all that run fit into the cache with all the tokens they may still generate.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Line:
    """First come, first served. `limit` is asked each time, with the seconds for which the first one has waited; `room`
    is in tokens. For one event loop."""

    def __init__(self, limit: Callable[[float], int], room: int) -> None:
        self.running = 0
        self.held = 0
        self._limit = limit
        self._room = room
        self._waiting: deque[tuple[asyncio.Future[None], int, float]] = deque()

    @property
    def waiting(self) -> int:
        """Requests whose turn has not come."""
        return sum(not turn.done() for turn, _, _ in self._waiting)

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[None]:
        """Waits for the turn of a request of at most so many tokens, and holds it. Whoever gives up leaves the line."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, tokens, time.monotonic()))
        self.move_up()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn had come just then
                self._leave(tokens)
            raise
        try:
            yield
        finally:
            self._leave(tokens)

    def move_up(self) -> None:
        """Lets in as many as may run now."""
        while self._waiting:
            turn, tokens, came = self._waiting[0]
            full = self.running >= self._limit(time.monotonic() - came)
            if not turn.done() and (full or self.held + tokens > self._room):
                return
            self._waiting.popleft()
            if not turn.done():
                self.running, self.held = self.running + 1, self.held + tokens
                turn.set_result(None)

    def _leave(self, tokens: int) -> None:
        self.running, self.held = self.running - 1, self.held - tokens
        self.move_up()

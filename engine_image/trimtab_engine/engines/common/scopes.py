"""The scopes of keys and values: each owner has a number, which engines mix into what they look texts up by.

A number is drawn at random when an owner comes, and given up when its conversation ends: what was computed under it is
found by nobody afterwards, whatever is still running.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_SCOPES = 10_000


@dataclass(kw_only=True, eq=False)
class Scope:
    """`number` has 63 bits; `ended`: no further request comes into it."""

    number: int
    used: float
    running: int = 0
    ended: bool = False


class Scopes:
    """Times are in seconds of one clock. For one event loop. `forget` is called with each number that is given up."""

    def __init__(
        self,
        forget: Callable[[int], None],
        *,
        idle_seconds: float,
        most: int = MOST_SCOPES,
        draw: Callable[[], int] = lambda: secrets.randbits(63),
    ) -> None:
        self._forget = forget
        self._idle_seconds = idle_seconds
        self._most = most
        self._draw = draw
        self._scopes: OrderedDict[bytes, Scope] = OrderedDict()  # the longest unused first

    def __len__(self) -> int:
        return len(self._scopes)

    def enter(self, owner: bytes, now: float) -> Scope:
        """The scope of a request that begins. `leave` it when the request has ended."""
        scope = self._scopes.get(owner)
        if scope is None:
            scope = self._scopes[owner] = Scope(number=self._draw(), used=now)
        self._scopes.move_to_end(owner)
        scope.used, scope.running = now, scope.running + 1
        while len(self._scopes) > self._most:
            self.end(next(iter(self._scopes)))
        return scope

    def leave(self, scope: Scope, now: float) -> None:
        """What the last request of an ended conversation left behind goes, too."""
        scope.used, scope.running = now, scope.running - 1
        if scope.ended and not scope.running:
            self._forget(scope.number)

    def end(self, owner: bytes) -> bool:
        """Ends an owner's scope; False where there is none."""
        scope = self._scopes.pop(owner, None)
        if scope is None:
            return False
        scope.ended = True
        self._forget(scope.number)
        return True

    def end_all(self) -> int:
        """How many there were."""
        owners = tuple(self._scopes)
        for owner in owners:
            self.end(owner)
        return len(owners)

    def tidy(self, now: float) -> None:
        """Ends those that nobody has used for the idle time."""
        old = [
            owner
            for owner, scope in self._scopes.items()
            if not scope.running and now - scope.used >= self._idle_seconds
        ]
        for owner in old:
            self.end(owner)

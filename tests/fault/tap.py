"""Where the operator's requests leave its process: they are counted there, and there it can be killed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fault.clock import Ages
from tests.fault.script import Call, call_of
from trimtab.kube.transport import Request, Transport


class KilledError(BaseException):
    """The process is no more. Not an Exception: nothing in the operator may handle it."""


@dataclass(frozen=True, slots=True)
class Crash:
    """Before or after write number `write`, counted from 1."""

    write: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} write {self.write}"


@dataclass
class Tap:
    """A Transport around the real one. From the crash on nothing is sent and every call raises, as after a SIGKILL.

    One tap outlives the operators that send through it: `writes` are those of all of them since `begin`.
    """

    ages: Ages
    writes: list[Call] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)  # in which cycle each write was made
    cycle: int = 0
    sent: int = 0  # writes in all
    crash: Crash | None = None
    crashed: bool = False
    before: Callable[[int], None] = lambda number: None  # somebody else acts just before write `number` is sent
    _dead: Transport | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, crash: Crash | None = None) -> None:
        """Writes are counted from here; `crash` is due once."""
        self.writes, self.cycles, self.crash, self.crashed = [], [], crash, False

    def send(self, transport: Transport, request: Request) -> dict[str, Any]:
        call = call_of(request.method, request.path + "?" + "&".join("=".join(pair) for pair in request.query),
                       request.content_type if request.body is not None else "")  # fmt: skip
        with self._lock:
            if self._dead is transport:
                raise KilledError
            if not call.is_write:
                crash = None
            else:
                self.sent += 1
                self.writes.append(call)
                self.cycles.append(self.cycle)
                crash = self.crash if self.crash is not None and self.crash.write == len(self.writes) else None
            if crash is not None:
                self.crash, self.crashed, self._dead = None, True, transport
        if crash is not None and not crash.after:
            raise KilledError
        if call.is_write:
            self.before(len(self.writes))
        answer = self.ages.stamped(transport.send(request))
        if crash is not None:
            raise KilledError
        return answer


class Tapped:
    """One operator's Transport."""

    def __init__(self, tap: Tap, inner: Transport) -> None:
        self._tap = tap
        self._inner = inner

    def send(self, request: Request) -> dict[str, Any]:
        return self._tap.send(self._inner, request)

    def close(self) -> None:
        self._inner.close()

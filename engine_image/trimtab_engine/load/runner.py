"""Keeps the traffic going, open loop or closed loop, and hands every request to the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trimtab_engine.load.client import Result, Target, open_session, send
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.workload import Ask, Asking, gaps


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How much traffic: `offsets` of recorded arrivals in seconds, else `rate` arrivals per second, else `batch`
    requests at once and the next ones when all are answered, else `concurrency` clients in a closed loop."""

    concurrency: int = 1
    rate: float | None = None
    burstiness: float = 1.0
    most_in_flight: int = 512
    max_seconds: float = 600.0
    max_requests: int = 100_000
    pause_after_failure: float = 0.2
    ramp_seconds: float = 0.0
    batch: int | None = None
    offsets: tuple[float, ...] | None = None


class Observer:
    """What else wants to know of tokens and ends of requests; the Prometheus page is one."""

    def tokens(self, count: int, gap: float | None, ttft: float | None) -> None:
        """New tokens arrived."""

    def ended(self, result: Result) -> None:
        """A request ended."""


class Runner:
    """One run. `clock` gives seconds since the epoch, `log` takes one JSON line per failed request."""

    def __init__(
        self,
        target: Target,
        workload: Asking,
        traffic: Traffic,
        ledger: Ledger,
        *,
        clock: Callable[[], float] = time.time,
        log: Callable[[str], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.target = target
        self.traffic = traffic
        self.ledger = ledger
        self.clock = clock
        self.state = "running"
        self.began = clock()
        self._asks = workload.asks()
        self._arrivals = random.Random(workload.seed + 1)
        self._log = log or (lambda line: print(line, file=sys.stdout, flush=True))
        self._observer = observer or Observer()
        self._session = open_session(target)
        self._requests: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._next_arrival: float | None = None
        self._arrived = 0

    @property
    def may_send(self) -> bool:
        """Whether new requests may be issued now."""
        if self.clock() - self.began >= self.traffic.max_seconds:
            return False
        return self.state == "running" and self.ledger.total.sent < self.traffic.max_requests

    @property
    def exhausted(self) -> bool:
        """Whether a bound of the run is reached."""
        return (
            self.clock() - self.began >= self.traffic.max_seconds or self.ledger.total.sent >= self.traffic.max_requests
        )

    def change(self, traffic: Traffic) -> None:
        """Takes new traffic at once."""
        self.traffic = traffic
        self._next_arrival = None
        self._changed.set()

    def set_state(self, state: str) -> None:
        """`running`, `paused` (no new requests, may go on) or `stopped` (no new requests, ever)."""
        if self.state != "stopped":
            self.state = state
        self._changed.set()

    async def run(self) -> None:
        """Until a bound is reached or the state is `stopped`, and then until nothing is in flight."""
        try:
            while self.state != "stopped" and not self.exhausted:
                if self.traffic.offsets is not None:
                    await self._recorded_step(self.traffic.offsets)
                elif self.traffic.rate is not None:
                    await self._open_loop_step()
                elif self.traffic.batch is not None:
                    await self._batch_step(self.traffic.batch)
                else:
                    await self._closed_loop_step()
            self.set_state("stopped")
            await self.drained(self.target.timeout + self.target.connect_timeout)
        finally:
            self.set_state("stopped")
            for task in list(self._requests):
                task.cancel()
            await asyncio.gather(*self._requests, return_exceptions=True)
            await self._session.close()

    async def drained(self, timeout: float) -> bool:
        """Waits until nothing is in flight, at most `timeout` seconds."""
        try:
            await asyncio.wait_for(self._quiet.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def _open_loop_step(self) -> None:
        """Waits for the next arrival; arrivals keep their own schedule, however slow the server is."""
        rate = self.traffic.rate or 0.0
        if rate <= 0 or self.state != "running":
            self._next_arrival = None
            await self._pause(0.5)
            return
        now = self.clock()
        if self._next_arrival is None:
            self._next_arrival = now + gaps(rate, self.traffic.burstiness, self._arrivals)
        if now < self._next_arrival:
            await self._pause(self._next_arrival - now)
            return
        self._next_arrival += gaps(rate, self.traffic.burstiness, self._arrivals)
        self._arrive(now)

    def _arrive(self, now: float) -> None:
        ask = next(self._asks)  # one that is not sent takes its recorded lengths with it
        if self.ledger.in_flight >= self.traffic.most_in_flight:
            self.ledger.skipped(now)
        else:
            self._start(ask, pause=0.0)

    async def _recorded_step(self, offsets: tuple[float, ...]) -> None:
        """Waits for the next recorded arrival; after the last one the run is over."""
        if self._arrived >= len(offsets):
            self.set_state("stopped")
            return
        now, due = self.clock(), self.began + offsets[self._arrived]
        if now < due:
            await self._pause(due - now)
            return
        self._arrived += 1
        self._arrive(now)

    async def _batch_step(self, size: int) -> None:
        """As many at once as a batch has, when the one before has been answered."""
        if not self._requests:
            for _ in range(min(size, self.traffic.max_requests - self.ledger.total.sent)):
                self._start(next(self._asks), pause=0.0)
        await self._pause(0.5)

    async def _closed_loop_step(self) -> None:
        while self.may_send and len(self._requests) < self._wanted_clients():
            self._start(next(self._asks), pause=self.traffic.pause_after_failure)
        await self._pause(0.5)

    def _wanted_clients(self) -> int:
        ramp = self.traffic.ramp_seconds
        share = min(1.0, (self.clock() - self.began + 0.001) / ramp) if ramp > 0 else 1.0
        return min(self.traffic.most_in_flight, max(1, round(self.traffic.concurrency * share)))

    async def _pause(self, seconds: float) -> None:
        """Sleeps until something changed, `seconds` passed or the run is over, whichever is first."""
        left = self.traffic.max_seconds - (self.clock() - self.began)
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), max(0.0, min(seconds, left, 1.0)))

    def _start(self, ask: Ask, *, pause: float) -> None:
        self.ledger.sent(self.clock())
        self._quiet.clear()
        task = asyncio.create_task(self._one(ask, pause))
        self._requests.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if self.traffic.rate is None:
            self._changed.set()

    async def _one(self, ask: Ask, pause: float) -> None:
        def on_tokens(count: int, gap: float | None, ttft: float | None) -> None:
            self.ledger.tokens(self.clock(), count, gap, ttft)
            self._observer.tokens(count, gap, ttft)

        result = await send(self._session, self.target, ask, on_tokens)
        self._account(ask, result)
        if result.reason is not None and pause and self.state == "running":
            await asyncio.sleep(pause)

    def _account(self, ask: Ask, result: Result) -> None:
        now = self.clock()
        if result.reason is None:
            self.ledger.succeeded(now, e2e=result.seconds, prompt_tokens=result.prompt_tokens)
        else:
            self.ledger.failed(now, result.reason)
            self._log(json.dumps(failure_line(now, ask, result)))
        self._observer.ended(result)
        if self.ledger.in_flight == 0:
            self._quiet.set()


def failure_line(now: float, ask: Ask, result: Result) -> dict[str, Any]:
    """The log line of a failed request."""
    return {
        "event": "request_failed",
        "time": round(now, 3),
        "request": ask.number,
        "reason": result.reason,
        "detail": result.detail,
        "status": result.status,
        "pod": result.pod,
        "after_seconds": round(result.seconds, 3),
        "output_tokens_wanted": ask.output_tokens,
    }

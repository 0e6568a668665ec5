"""Runs the simulated scheduler in real time and hands its tokens to whoever waits for them."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .config import EngineConfig
from .faults import Faults
from .metrics import EngineMetrics
from .scheduler import Finish, Request, Scheduler

# Printable ASCII without the characters that JSON escapes: one token is one of these characters.
_ALPHABET: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in '"\\<>&')
_TABLE: Final = "".join(random.Random(32).choices(_ALPHABET, k=8192))

# Step ends follow the simulated schedule, so that timer jitter does not add up; beyond this lag the schedule restarts.
_LARGEST_LAG_SECONDS: Final = 0.25


class EngineStoppedError(Exception):
    """The engine takes no more requests; the message is what the engine answers then."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as tokens: `data` cut into pieces of `bytes_per_token` bytes."""

    data: bytes
    bytes_per_token: float

    @property
    def tokens(self) -> int:
        return max(1, -int(-len(self.data) // self.bytes_per_token))

    def piece(self, start: int, end: int) -> bytes:
        return self.data[int(start * self.bytes_per_token) : int(end * self.bytes_per_token)]


class Mailbox:
    """New tokens of the sequences of one HTTP request, in the order in which they were made."""

    def __init__(self, sequences: int) -> None:
        self.counts = [0] * sequences
        self._new: list[tuple[int, int, Finish | None]] = []
        self._waiter: asyncio.Future[None] | None = None

    def put(self, index: int, tokens: int, finish: Finish | None) -> None:
        """Announces `tokens` more tokens of a sequence, and its end."""
        self._new.append((index, tokens, finish))
        self._wake()

    async def get(self) -> list[tuple[int, int, Finish | None]]:
        """What arrived since the last call, at least one entry."""
        if not self._new:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        new, self._new = self._new, []
        return new

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def output_text(seed: int, start: int, end: int) -> str:
    """Characters `start` to `end` of the answer with a seed; one character is one token."""
    offset = seed % len(_TABLE)
    return "".join(_TABLE[(offset + position) % len(_TABLE)] for position in range(start, end))


def _nothing() -> None:
    """Nobody looks at the steps."""


class Engine:
    """The simulated engine. All times are those of the running event loop."""

    def __init__(self, config: EngineConfig, metrics: EngineMetrics, faults: Faults) -> None:
        self.config = config
        self.scheduler = Scheduler(config.limits)
        self._metrics = metrics
        self._faults = faults
        self._mailboxes: dict[Request, tuple[Mailbox, int]] = {}
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.hung = False
        self.draining = False
        self.before_step: Callable[[], None] = _nothing
        self.after_step: Callable[[], None] = _nothing

    @property
    def in_flight(self) -> int:
        """Requests inside, waiting or running."""
        return len(self._mailboxes)

    @property
    def waiting_prompt_tokens(self) -> int:
        """Prompt tokens of requests that have no output yet."""
        return sum(request.prompt_tokens for request in self._mailboxes if request.generated == 0)

    def submit(
        self,
        prompt: Prompt,
        *,
        request_id: str,
        mailbox: Mailbox,
        index: int,
        seed: int,
        output_tokens: int,
        max_tokens: int | None,
        priority: int,
    ) -> Request:
        """Queues one sequence.

        Raises:
            ValueError: it can never fit.
            EngineStoppedError: the engine no longer takes requests.
        """
        if self.draining:
            raise EngineStoppedError("cannot schedule new futures after shutdown")
        length = prompt.tokens

        def content(start: int, end: int) -> bytes:
            known = prompt.piece(start, min(end, length)) if start < length else b""
            return known + output_text(seed, max(0, start - length), max(0, end - length)).encode()

        request = Request(
            id=request_id,
            prompt_tokens=length,
            output_tokens=output_tokens,
            arrived=asyncio.get_running_loop().time(),
            content=content,
            priority=priority,
            max_tokens=max_tokens,
        )
        self.scheduler.add(request)
        self._mailboxes[request] = (mailbox, index)
        self._metrics.observe_queue(self.scheduler)
        self._idle.clear()
        self._arrived.set()
        return request

    def abort(self, requests: Sequence[Request]) -> None:
        """Takes out the requests of a client that went away."""
        for request in requests:
            if self._mailboxes.pop(request, None) is not None:
                self.scheduler.abort(request)
                self._metrics.observe_finished(request)
        self._metrics.observe_queue(self.scheduler)
        if not self._mailboxes:
            self._idle.set()

    async def drained(self, timeout: float | None) -> bool:
        """Waits until nothing is in flight, at most `timeout` seconds (None: for ever)."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def hang(self) -> None:
        """Computes no more, without saying so: what is in flight waits until its client goes away."""
        self.hung = True

    def drain(self) -> None:
        """Takes no more requests and goes on with those inside."""
        self.draining = True

    async def run(self) -> None:
        """Steps for ever; cancel it to end it."""
        loop = asyncio.get_running_loop()
        cursor = loop.time()
        while True:
            self.before_step()
            step = None if self.hung else self.scheduler.schedule(cursor)
            if step is None:
                self.after_step()
                self._arrived.clear()
                await self._arrived.wait()
                cursor = loop.time()
                continue
            seconds = self.config.profile.step_seconds(step, self.config.factor)
            end = cursor + seconds * self._faults.latency_factor / self.config.speed
            late = loop.time() - end
            await asyncio.sleep(max(0.0, -late))
            if late > _LARGEST_LAG_SECONDS:
                end = loop.time()
            outcome = self.scheduler.complete(step, end)
            self._metrics.observe_step(step, outcome, self.scheduler)
            self.after_step()
            for request in outcome.emitted:
                if (waiting := self._mailboxes.get(request)) is not None:
                    waiting[0].put(waiting[1], 1, request.finished)
            for request in outcome.finished:
                self._mailboxes.pop(request, None)
            if not self._mailboxes:
                self._idle.set()
            cursor = end

    def prompt_seed(self, prompt: Prompt, *, greedy: bool, seed: int | None, source: random.Random) -> int:
        """What decides the answer: greedy answers depend on the prompt alone, unless `output_noise` says otherwise."""
        value = zlib.crc32(prompt.data)
        if seed is not None and not greedy:
            return value ^ (seed * 2654435761 & 0xFFFFFFFF)
        if not greedy or source.random() < self._faults.output_noise:
            return source.getrandbits(32)
        return value

"""A queueing model of a batching engine, in simulated time: what the tuner is tried on.

A step computes one token for each request that decodes, and prompts with what is left of its tokens. It takes
`base + each * decoding + token * prompt tokens` seconds, and beyond `knee` requests each of them costs more, as where a
cache is too small. Requests come from so many clients, each with one at a time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from trimtab_engine.limits.limits import Capacity, Limits
from trimtab_engine.tuner.facts import Measured, Targets
from trimtab_engine.tuner.tuner import Memory, begin, step

CAPACITY = Capacity(running_requests=64, tokens_per_step=1024, longest_context=4096)


@dataclass
class Job:
    came: float
    prompt: int
    output: int
    last: float = 0.0


@dataclass
class Model:
    """Times in seconds."""

    clients: int
    base: float = 0.010
    each: float = 0.001
    token: float = 0.00002
    knee: int = 1000
    prompt: int = 100
    output: int = 50
    seed: int = 1
    now: float = 0.0
    waiting: deque[Job] = field(default_factory=deque)
    filling: list[Job] = field(default_factory=list)
    decoding: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)
        for _ in range(self.clients):
            self._come()

    def run(self, seconds: float, limits: Limits) -> Measured:
        """What is measured while these limits are in force."""
        until, since = self.now + seconds, self.now
        ttft: list[float] = []
        gaps: list[float] = []
        tokens = ended = refused = 0
        while self.now < until:
            while self.waiting and len(self.filling) + len(self.decoding) < limits.max_running_requests:
                self.filling.append(self.waiting.popleft())
            room = max(0, limits.max_tokens_per_step - len(self.decoding))
            prompts = 0
            finished: list[Job] = []
            for job in self.filling:
                part = min(job.prompt, room - prompts)
                job.prompt -= part
                prompts += part
                if job.prompt == 0:
                    finished.append(job)
            batch = len(self.decoding)
            crowded = max(0, batch - self.knee)
            self.now += self.base + self.each * batch + self.token * prompts + 10 * self.each * crowded
            for job in self.decoding:
                gaps.append(self.now - job.last)
                job.last, job.output = self.now, job.output - 1
            tokens += batch + len(finished)
            over = [job for job in self.decoding if job.output <= 0]
            ended += len(over)
            self.decoding = [job for job in self.decoding if job.output > 0] + finished
            self.filling = [job for job in self.filling if job.prompt > 0]
            for job in finished:
                job.last = self.now
                ttft.append(self.now - job.came)
            for _ in over:
                self._come()
            refused += self._refuse(limits, ended / max(self.now - since, 1e-9))
        return Measured(
            seconds=self.now - since,
            ttft=_p95(ttft),
            first_tokens=len(ttft),
            itl=_p95(gaps),
            gaps=len(gaps),
            tokens_per_second=tokens / (self.now - since),
            error_share=0.0,
            ended=ended,
            refused=refused,
            running=len(self.filling) + len(self.decoding),
            waiting=len(self.waiting),
        )

    def _come(self) -> None:
        prompt = max(1, round(self.prompt * self.chance.uniform(0.5, 1.5)))
        output = max(1, round(self.output * self.chance.uniform(0.5, 1.5)))
        self.waiting.append(Job(came=self.now, prompt=prompt, output=output))

    def _refuse(self, limits: Limits, rate: float) -> int:
        """Sends those away that would wait too long, as admission does; they come back at once, as new requests."""
        most = limits.max_wait_seconds
        refused = 0
        while most is not None and rate > 0 and len(self.waiting) > 1 and len(self.waiting) / rate > most:
            self.waiting.pop()
            refused += 1
        return refused


def _p95(values: list[float]) -> float | None:
    return sorted(values)[int(0.95 * (len(values) - 1))] if values else None


def drive(
    model: Model, limits: Limits, targets: Targets, *, windows: int, seconds: float = 5.0
) -> tuple[Memory, list[tuple[Limits, Measured]]]:
    """The tuner on the model; what was in force in each window, and what was measured."""
    memory, seen = begin(limits), []
    for _ in range(windows):
        measured = model.run(seconds, memory.limits)
        seen.append((memory.limits, measured))
        memory, _ = step(memory, measured, targets=targets, capacity=CAPACITY)
    return memory, seen

"""Sliding windows of fixed slots of time. Each slot keeps t-digests, which merge, so any span of slots has percentiles.

The digests are fastdigest's: T. Dunning, O. Ertl, "Computing Extremely Accurate Quantiles Using t-Digests" (2019).
Their relative error is smallest at the ends of the distribution, which is where latencies matter.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastdigest import TDigest

from trimtab_engine.monitor.measured import Outcome, Percentiles, Window

CENTROIDS = 200

# A digest that takes values has room for all of its centroids, 6.5 KB. As bytes it takes what it holds, 3 KB at most.
Digest = TDigest | bytes


def _digest() -> TDigest:
    return TDigest(max_centroids=CENTROIDS)


@dataclass
class Slot:
    """One span of time; `number` counts spans since the clock's zero."""

    number: int
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    prompt_tokens: int = 0
    output_tokens: int = 0
    ttft: TDigest = field(default_factory=_digest)
    itl: TDigest = field(default_factory=_digest)
    latency: TDigest = field(default_factory=_digest)

    def packed(self) -> Packed:
        """The slot when its time is over."""
        ttft, itl, latency = (
            b"" if digest.is_empty() else digest.to_bytes() for digest in (self.ttft, self.itl, self.latency)
        )
        return Packed(self.number, self.outcomes, self.prompt_tokens, self.output_tokens, ttft, itl, latency)


class Packed(NamedTuple):
    """A slot that takes no more values; the digests as their bytes, empty without values."""

    number: int
    outcomes: Counter[Outcome]
    prompt_tokens: int
    output_tokens: int
    ttft: bytes
    itl: bytes
    latency: bytes


class Slots:
    """The last `count` slots of `seconds` each. `now` is in seconds of any steady clock."""

    def __init__(self, *, seconds: float, count: int) -> None:
        self.seconds = seconds
        self._count = count
        self._past: deque[Packed] = deque()
        self._newest: Slot | None = None

    def at(self, now: float) -> Slot:
        """The slot of this moment. A clock that went back, or a thread that was late, adds to the newest slot."""
        number = int(now // self.seconds)
        if self._newest is None or self._newest.number < number:
            if self._newest is not None:
                self._past.append(self._newest.packed())
            self._newest = Slot(number=number)
            while self._past and self._past[0].number <= number - self._count:
                self._past.popleft()
        return self._newest

    def window(self, now: float, span: float) -> Window:
        """What the slots of the last `span` seconds hold, at least one slot. The slot at its edge counts as a whole."""
        last = int(now // self.seconds)
        count = min(self._count, max(1, round(span / self.seconds)))
        return window_of([slot for slot in self._slots() if slot.number > last - count], seconds=count * self.seconds)

    def each(self, now: float) -> list[tuple[float, Window]]:
        """Every slot that is complete, oldest first, with the moment of its beginning."""
        last = int(now // self.seconds)
        full = [slot for slot in self._slots() if last - self._count < slot.number < last]
        return [(slot.number * self.seconds, window_of([slot], seconds=self.seconds)) for slot in full]

    def _slots(self) -> Iterator[Slot | Packed]:
        """Oldest first."""
        yield from self._past
        if self._newest is not None:
            yield self._newest


def window_of(slots: Sequence[Slot | Packed], *, seconds: float) -> Window:
    """The slots taken together."""
    outcomes: Counter[Outcome] = Counter()
    for slot in slots:
        outcomes.update(slot.outcomes)
    return Window(
        seconds=seconds,
        outcomes=dict(outcomes),
        prompt_tokens=sum(slot.prompt_tokens for slot in slots),
        output_tokens=sum(slot.output_tokens for slot in slots),
        ttft=_percentiles(slot.ttft for slot in slots),
        itl=_percentiles(slot.itl for slot in slots),
        latency=_percentiles(slot.latency for slot in slots),
    )


def _percentiles(digests: Iterable[Digest]) -> Percentiles | None:
    merged = _digest()
    for digest in digests:
        if isinstance(digest, TDigest):
            if not digest.is_empty():
                merged.merge_inplace(digest)
        elif digest:
            merged.merge_inplace(TDigest.from_bytes(digest))
    if merged.is_empty():
        return None
    p50, p95, p99 = merged.quantile_vec([0.5, 0.95, 0.99])
    return Percentiles(count=int(merged.n_values), p50=p50, p95=p95, p99=p99)

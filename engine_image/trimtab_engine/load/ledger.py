"""Counts every request exactly once, and keeps what happened when. No I/O, no clock.

At every moment `sent == succeeded + failed + in_flight`.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# Edges grow by this factor, so that a percentile is known within 2 %.
_GROWTH = math.log(1.02)
_SMALLEST_SECONDS = 1e-5
KINDS = ("ttft", "itl", "e2e")


class Histogram:
    """Seconds in bins of 2 %; two of them add up exactly."""

    __slots__ = ("bins", "count", "largest", "total")

    def __init__(self) -> None:
        self.bins: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        self.bins[int(math.log(max(seconds, _SMALLEST_SECONDS) / _SMALLEST_SECONDS) / _GROWTH)] += 1
        self.count += 1
        self.total += seconds
        self.largest = max(self.largest, seconds)

    def merge(self, other: Histogram) -> None:
        self.bins.update(other.bins)
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def percentile(self, share: float) -> float | None:
        """Seconds below which `share` (0 to 1) of the values lie; None without values."""
        if not self.count:
            return None
        wanted, seen = max(1, math.ceil(share * self.count)), 0
        for index in sorted(self.bins):
            seen += self.bins[index]
            if seen >= wanted:
                return min(self.largest, _SMALLEST_SECONDS * math.exp(_GROWTH * (index + 0.5)))
        return self.largest

    def summary(self) -> dict[str, float | int | None]:
        """Milliseconds."""

        def ms(seconds: float | None) -> float | None:
            return None if seconds is None else round(seconds * 1000, 3)

        return {
            "count": self.count,
            "mean": ms(self.total / self.count) if self.count else None,
            "p50": ms(self.percentile(0.50)),
            "p95": ms(self.percentile(0.95)),
            "p99": ms(self.percentile(0.99)),
            "max": ms(self.largest) if self.count else None,
        }


@dataclass
class Bucket:
    """What happened in one stretch of time."""

    sent: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latency: dict[str, Histogram] = field(default_factory=lambda: {kind: Histogram() for kind in KINDS})

    def merge(self, other: Bucket) -> None:
        self.sent += other.sent
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.skipped += other.skipped
        self.prompt_tokens += other.prompt_tokens
        self.output_tokens += other.output_tokens
        self.failures.update(other.failures)
        for kind, histogram in other.latency.items():
            self.latency[kind].merge(histogram)

    def as_json(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "skipped": self.skipped,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "failures": dict(sorted(self.failures.items())),
            **{f"{kind}_ms": self.latency[kind].summary() for kind in KINDS},
        }


class Ledger:
    """The totals and a series of buckets; times are seconds since the epoch, handed in by the caller."""

    def __init__(self, *, bucket_seconds: float = 2.0, keep_buckets: int = 1800) -> None:
        self.bucket_seconds = bucket_seconds
        self._keep = keep_buckets
        self.total = Bucket()
        self._series: OrderedDict[int, Bucket] = OrderedDict()
        self.in_flight = 0

    def sent(self, now: float) -> None:
        """A request is about to leave."""
        self.in_flight += 1
        for bucket in self._at(now):
            bucket.sent += 1

    def tokens(self, now: float, count: int, gap: float | None, ttft: float | None) -> None:
        """`count` output tokens arrived, `gap` seconds after the ones before or `ttft` after the request left."""
        for bucket in self._at(now):
            bucket.output_tokens += count
            if gap is not None:
                bucket.latency["itl"].add(gap)
            if ttft is not None:
                bucket.latency["ttft"].add(ttft)

    def succeeded(self, now: float, *, e2e: float, prompt_tokens: int) -> None:
        """A request got its whole answer."""
        self.in_flight -= 1
        for bucket in self._at(now):
            bucket.succeeded += 1
            bucket.prompt_tokens += prompt_tokens
            bucket.latency["e2e"].add(e2e)

    def failed(self, now: float, reason: str) -> None:
        """A request did not."""
        self.in_flight -= 1
        for bucket in self._at(now):
            bucket.failed += 1
            bucket.failures[reason] += 1

    def skipped(self, now: float) -> None:
        """An arrival of the open loop was not sent because too many requests are in flight."""
        for bucket in self._at(now):
            bucket.skipped += 1

    def window(self, since: float, until: float) -> Bucket:
        """All whole buckets from `since` to `until`, added up."""
        added = Bucket()
        for _, bucket in self._between(since, until):
            added.merge(bucket)
        return added

    def series(self, since: float, until: float) -> list[dict[str, Any]]:
        """The buckets from `since` to `until`, oldest first; `t` is the start of each, `seconds` its length."""
        return [
            {"t": start, "seconds": self.bucket_seconds, **bucket.as_json()}
            for start, bucket in self._between(since, until)
        ]

    def totals(self) -> dict[str, Any]:
        """Everything since the beginning."""
        return {"in_flight": self.in_flight, **self.total.as_json()}

    def _between(self, since: float, until: float) -> Iterable[tuple[float, Bucket]]:
        for index, bucket in sorted(self._series.items()):
            start = index * self.bucket_seconds
            if start + self.bucket_seconds > since and start < until:
                yield start, bucket

    def _at(self, now: float) -> tuple[Bucket, Bucket]:
        index = int(now // self.bucket_seconds)
        bucket = self._series.get(index)
        if bucket is None:
            bucket = self._series[index] = Bucket()
            while len(self._series) > self._keep:
                self._series.popitem(last=False)
        return self.total, bucket

"""All entries of a process: a shelf for each partition, bounds of number, bytes and age. Not for several threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from trimtab_engine.semantic_cache.embed import Vector
from trimtab_engine.semantic_cache.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that is near enough."""

    key: str
    similarity: float


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    partition: str
    expires: float
    size: int


class Shelves:
    """Forgets what expired, and what was not asked for the longest where there is more than may be.

    Times are seconds of any clock that only goes on; sizes are bytes of answers.
    """

    def __init__(self, *, width: int, largest_entries: int, largest_bytes: int) -> None:
        self._width = width
        self._largest_entries = largest_entries
        self._largest_bytes = largest_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._keys: dict[int, str] = {}
        self._shelves: dict[str, Shelf] = {}
        self._next = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def add(self, key: str, partition: str, vector: Vector, *, expires: float, size: int, now: float) -> list[str]:
        """Keeps one more; the keys of those that were forgotten for it."""
        if key in self._entries:
            return []
        shelf = self._shelves.setdefault(partition, Shelf(self._width))
        shelf.add(self._next, vector)
        self._entries[key] = _Entry(self._next, partition, expires, size)
        self._keys[self._next] = key
        self._next += 1
        self.bytes += size
        forgotten = list(self._expired(now))
        while len(self._entries) > self._largest_entries or self.bytes > self._largest_bytes:
            forgotten.append(next(iter(self._entries)))
            self.remove(forgotten[-1])
        return forgotten

    def find(self, partition: str, vector: Vector, *, threshold: float, now: float) -> Found | None:
        """The nearest entry of the partition, where it is near enough and has not expired."""
        shelf = self._shelves.get(partition)
        near = shelf.nearest(vector) if shelf else None
        if near is None or near[1] < threshold:
            return None
        key = self._keys[near[0]]
        if self._entries[key].expires <= now:
            self.remove(key)
            return self.find(partition, vector, threshold=threshold, now=now)
        self._entries.move_to_end(key)
        return Found(key, min(1.0, near[1]))

    def remove(self, key: str) -> None:
        """Nothing happens where there is no such entry."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.bytes -= entry.size
        del self._keys[entry.number]
        shelf = self._shelves[entry.partition]
        shelf.remove(entry.number)
        if not len(shelf):
            del self._shelves[entry.partition]

    def _expired(self, now: float) -> Iterator[str]:
        """Of the oldest ones: every call looks at a few, so that all are looked at in time."""
        for key in [key for key, _ in zip(self._entries, range(4), strict=False)]:
            if self._entries[key].expires <= now:
                self.remove(key)
                yield key

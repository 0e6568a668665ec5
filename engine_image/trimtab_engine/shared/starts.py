"""When the engine took up a request, told by its process to the API servers: the end of its time in the queue.

A ring of the last `SLOTS` requests in shared memory, one for each engine of the server. A reader that comes too late
finds nothing, and a request whose name is not of ours is not told; whoever reads does without then.
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path

from trimtab_engine.shared.memory import Found, written

SLOTS = 4096
_SLOT = struct.Struct("=16sd")
_NAME = re.compile(r"[0-9a-f]{32}")


def key_of(name: str) -> bytes | None:
    """The 16 bytes within an engine's name of a request, such as `cmpl-4bf9...-0-1a2b`; None where there are none."""
    found = _NAME.search(name)
    return bytes.fromhex(found.group()) if found else None


class Starts:
    """The engine's side."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self._memory = written(folder / f"starts-{rank}", SLOTS * _SLOT.size)
        self._next = 0

    def post(self, name: str, at: float) -> None:
        """The engine computes this request since `at` (monotonic seconds, the same in every process)."""
        key = key_of(name)
        if key is not None:
            _SLOT.pack_into(self._memory, self._next * _SLOT.size, key, at)
            self._next = (self._next + 1) % SLOTS


class StartsReader:
    """The readers' side."""

    def __init__(self, folder: Path) -> None:
        self._rings = Found(folder, "starts-*", SLOTS * _SLOT.size)

    def find(self) -> None:
        """Takes up rings that are there since the last call."""
        self._rings.find()

    def read(self, name: str) -> float | None:
        """When the engine took up this request, or None where that is not known."""
        key = key_of(name)
        times = [at for ring in self._rings.all() if key and (at := _search(ring, key)) is not None]
        return min(times) if times else None


def _search(ring: mmap.mmap, key: bytes) -> float | None:
    where = ring.find(key)
    while where >= 0 and where % _SLOT.size:
        where = ring.find(key, where + 1)
    if where < 0:
        return None
    found, at = _SLOT.unpack_from(ring, where)
    return float(at) if found == key else None

"""Answers in Redis or Valkey, shared by all servers of one model.

An answer is a hash that expires by itself. A stream tells of the entries: each server reads what came since its last
look and keeps the vectors in memory, so that a look-up asks the store only for the answer that it found. Who writes
cuts the stream down to the bound, and takes the answers away with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import redis.asyncio as redis
from redis.exceptions import RedisError

from trimtab_engine.semantic_cache.answer import Answer
from trimtab_engine.semantic_cache.store import Entry, StoreError

AT_ONCE = 500  # entries of the stream that are read in one go


class RedisStore:
    """`prefix` keeps other users of the same Redis apart; `width` is that of the vectors."""

    def __init__(self, url: str, *, prefix: str, width: int, largest_entries: int, seconds: float) -> None:
        # What its methods return depends on the server's protocol, and its annotations allow for all of it.
        self._client: Any = redis.Redis.from_url(
            url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None
        )
        self._stream = f"{prefix}:entries"
        self._prefix = f"{prefix}:answer:"
        self._width = width
        self._largest = largest_entries
        self._last = "0-0"

    async def get(self, key: str) -> Answer | None:
        async with _told():
            found = await self._client.hmget(self._prefix + key, ["type", "body", "at"])
        kind, body, at = found
        if kind is None or body is None or at is None:
            return None
        with contextlib.suppress(ValueError):
            return Answer(content_type=kind.decode("latin-1"), body=body, at=float(at))
        raise StoreError(f"the answer {key} is none of ours")

    async def put(self, entry: Entry, answer: Answer) -> None:
        """The answer comes first: who reads of an entry finds its answer."""
        name = self._prefix + entry.key
        fields: dict[Any, Any] = {"type": answer.content_type, "body": answer.body, "at": answer.at}
        told: dict[Any, Any] = {
            "key": entry.key,
            "partition": entry.partition,
            "vector": entry.vector.astype("<f2").tobytes(),
            "size": entry.size,
            "expires": time.time() + entry.expires_in,
        }
        async with _told():
            pipe = self._client.pipeline(transaction=False)
            pipe.hset(name, mapping=fields)
            pipe.pexpire(name, max(1, round(1e3 * entry.expires_in)))
            pipe.xadd(self._stream, told)
            pipe.xlen(self._stream)
            *_, length = await pipe.execute()
            if length > self._largest:
                await self._cut(length - self._largest)

    async def _cut(self, count: int) -> None:
        """The oldest ones. Two servers may do it at once: what is gone already is no error."""
        oldest = await self._client.xrange(self._stream, count=count)
        if oldest:
            names = [self._prefix + fields[b"key"].decode() for _, fields in oldest if b"key" in fields]
            pipe = self._client.pipeline(transaction=False)
            pipe.xdel(self._stream, *(place for place, _ in oldest))
            pipe.unlink(*names)
            await pipe.execute()

    async def forget(self, keys: Sequence[str]) -> None:
        """Nothing: what one server has no room for, another one may have. The store has bounds of its own."""

    async def news(self) -> list[Entry]:
        found: list[Entry] = []
        while True:
            async with _told():
                read = await self._client.xread({self._stream: self._last}, count=AT_ONCE)
            rows = read[0][1] if isinstance(read, list) and read else _rows(read)
            for place, fields in rows:
                self._last = place
                entry = self._entry(fields)
                if entry is not None:
                    found.append(entry)
            if len(rows) < AT_ONCE:
                return found

    def _entry(self, fields: dict[bytes, bytes]) -> Entry | None:
        """None where it has expired or is not one of ours."""
        try:
            vector = np.frombuffer(fields[b"vector"], dtype="<f2").astype(np.float32)
            expires_in = float(fields[b"expires"]) - time.time()
            key, partition, size = fields[b"key"].decode(), fields[b"partition"].decode(), int(fields[b"size"])
        except (KeyError, ValueError):
            return None
        if len(vector) != self._width or not np.isfinite(vector).all() or expires_in <= 0:
            return None
        return Entry(key=key, partition=partition, vector=vector, size=size, expires_in=expires_in)

    async def close(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()


def _rows(read: Any) -> Any:
    """Redis 7's RESP3 answers with a mapping, RESP2 with a list of pairs."""
    if not read:
        return []
    (rows,) = read.values()
    return rows[0] if rows and isinstance(rows[0], list) and rows[0] and isinstance(rows[0][0], tuple | list) else rows


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreError(f"{type(error).__name__}: {error}") from error

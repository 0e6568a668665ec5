"""The cache: a question's vector, the nearest one that was asked before, its answer.

It never fails a request: whatever goes wrong is a miss, is counted, and is told by `problem`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from trimtab_engine.semantic_cache.answer import Answer
from trimtab_engine.semantic_cache.embed import Embedder, Vector
from trimtab_engine.semantic_cache.question import Question
from trimtab_engine.semantic_cache.shelves import Found, Shelves
from trimtab_engine.semantic_cache.store import Entry, Store, StoreError

log = logging.getLogger("trimtab_engine.semantic_cache")
T = TypeVar("T")

LOOK_UP_SECONDS = 0.25  # a look-up that takes longer, as while an index is made anew, is a miss
PAUSE_SECONDS = 5.0  # how long a store that failed is left alone
NEWS_SECONDS = 1.0  # between two looks for what others have stored


class Miss(StrEnum):
    """Why there is no hit, as a label of the metric."""

    NONE_NEAR = "miss"
    TOO_LONG = "length"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An answer from the cache, and the cosine of the two questions."""

    answer: Answer
    similarity: float


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a look-up found. With a miss, `vector` is what an answer can be kept under; None where it cannot."""

    question: Question
    hit: Hit | None = None
    miss: Miss | None = None
    vector: Vector | None = None


class SemanticCache:
    """`shelves` and `embedder` are used by one thread of its own."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        shelves: Shelves,
        store: Store,
        threshold: float,
        ttl_seconds: float,
        largest_answer_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem = ""
        self.largest_answer_bytes = largest_answer_bytes
        self._embedder = embedder
        self._shelves = shelves
        self._store = store
        self._threshold = threshold
        self._ttl = ttl_seconds
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="semantic-cache")
        self._paused_until = float("-inf")

    def __len__(self) -> int:
        return len(self._shelves)

    async def ask(self, question: Question) -> Asked:
        """Looks for an answer."""
        try:
            return await asyncio.wait_for(self._ask(question), LOOK_UP_SECONDS)
        except TimeoutError:
            log.warning("A look-up took longer than %g s", LOOK_UP_SECONDS)
            return Asked(question=question, miss=Miss.FAILED)
        except Exception:  # a cache that does not work is no reason not to answer
            log.exception("A look-up failed")
            return Asked(question=question, miss=Miss.FAILED)

    async def _ask(self, question: Question) -> Asked:
        if self._clock() < self._paused_until:
            return Asked(question=question, miss=Miss.FAILED)
        vector, found = await self._run(lambda: self._look(question))
        if vector is None:
            return Asked(question=question, miss=Miss.TOO_LONG)
        answer, failed = None, False
        if found is not None:
            answer = await self._told(self._store.get(found.key))
            failed = bool(self.problem)
            if answer is None and not failed:
                await self._run(lambda: self._shelves.remove(found.key))
        if found is None or answer is None:
            return Asked(question=question, miss=Miss.FAILED if failed else Miss.NONE_NEAR, vector=vector)
        return Asked(question=question, hit=Hit(answer=answer, similarity=found.similarity), vector=vector)

    def _look(self, question: Question) -> tuple[Vector | None, Found | None]:
        vector = self._embedder.embed(question.text)
        if vector is None:
            return None, None
        found = self._shelves.find(question.partition, vector, threshold=self._threshold, now=self._clock())
        return vector, found

    async def keep(self, asked: Asked, answer: Answer) -> bool:
        """Keeps the answer to what was asked; whether it did."""
        vector = asked.vector
        if vector is None or len(answer.body) > self.largest_answer_bytes or self._clock() < self._paused_until:
            return False
        entry = Entry(
            key=uuid.uuid4().hex,
            partition=asked.question.partition,
            vector=vector,
            size=len(answer.body),
            expires_in=self._ttl,
        )
        try:
            await self._told(self._store.put(entry, answer))
            if self.problem:
                return False
            await self._add(entry)
        except Exception:  # as above
            log.exception("An answer could not be kept")
            return False
        return True

    async def keep_up(self) -> None:
        """Takes up what others have stored, until it is cancelled."""
        while True:
            if self._clock() >= self._paused_until:
                try:
                    for entry in await self._told(self._store.news()) or ():
                        await self._add(entry)
                except Exception:  # the next look may work
                    log.exception("The news of the store could not be taken up")
            await asyncio.sleep(NEWS_SECONDS)

    async def close(self) -> None:
        with contextlib.suppress(StoreError):
            await self._store.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _add(self, entry: Entry) -> None:
        def add() -> list[str]:
            now = self._clock()
            expires = now + entry.expires_in
            return self._shelves.add(
                entry.key, entry.partition, entry.vector, expires=expires, size=entry.size, now=now
            )

        await self._told(self._store.forget(await self._run(add)))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _told(self, call: Awaitable[T]) -> T | None:
        """What the store says; None where it does not, and then it is left alone for a while."""
        try:
            said = await call
        except StoreError as error:
            if not self.problem:
                log.warning("The semantic cache does nothing until its store answers: %s", error)
            self.problem = str(error)
            self._paused_until = self._clock() + PAUSE_SECONDS
            return None
        self.problem = ""
        return said

"""Many reads become one: who asks in a short while shares one batched read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from trimtab.reconcile.coalesce import Coalescer


class Reader:
    """Answers with the length of each word, and remembers its batches. `missing` has no result."""

    def __init__(self, error: Exception | None = None) -> None:
        self.batches: list[tuple[str, tuple[str, ...]]] = []
        self.error = error
        self.began = asyncio.Semaphore(0)  # one for each read
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, group: str, items: Sequence[str]) -> Mapping[str, int]:
        self.batches.append((group, tuple(items)))
        self.began.release()
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return {item: len(item) for item in items if item != "missing"}


def _coalescer(read: Reader) -> Coalescer[str, str, str, int]:
    return Coalescer(read, lambda item: item, linger=0.01)


async def test_callers_of_one_group_share_a_read_and_each_gets_its_own_result() -> None:
    read = Reader()
    batches = _coalescer(read)
    answers = await asyncio.gather(*(batches.get("words", word) for word in ("one", "three", "seventeen")))
    assert answers == [3, 5, 9]
    assert read.batches == [("words", ("one", "three", "seventeen"))]


async def test_groups_are_read_apart() -> None:
    read = Reader()
    batches = _coalescer(read)
    assert tuple(await asyncio.gather(batches.get("a", "one"), batches.get("b", "three"))) == (3, 5)
    assert sorted(read.batches) == [("a", ("one",)), ("b", ("three",))]


async def test_a_caller_that_comes_while_a_batch_is_read_opens_the_next_one() -> None:
    read = Reader()
    read.may_answer.clear()
    batches = _coalescer(read)
    first = asyncio.create_task(batches.get("words", "one"))
    await read.began.acquire()
    second = asyncio.create_task(batches.get("words", "three"))
    await read.began.acquire()
    read.may_answer.set()
    assert (await first, await second) == (3, 5)
    assert read.batches == [("words", ("one",)), ("words", ("three",))]


async def test_what_the_batch_has_no_result_for_is_none() -> None:
    assert await _coalescer(Reader()).get("words", "missing") is None


async def test_a_failed_read_fails_for_all_its_callers_and_not_for_the_next_ones() -> None:
    read = Reader(error=RuntimeError("no answer"))
    batches = _coalescer(read)
    found = await asyncio.gather(batches.get("words", "one"), batches.get("words", "three"), return_exceptions=True)
    assert [str(error) for error in found] == ["no answer", "no answer"]
    read.error = None
    assert await batches.get("words", "one") == 3


async def test_a_caller_that_gives_up_does_not_end_the_read_of_the_others() -> None:
    read = Reader()
    read.may_answer.clear()
    batches = _coalescer(read)
    impatient = asyncio.create_task(batches.get("words", "one"))
    patient = asyncio.create_task(batches.get("words", "three"))
    await read.began.acquire()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    read.may_answer.set()
    assert await patient == 5

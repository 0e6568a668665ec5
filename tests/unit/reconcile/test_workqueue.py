"""The keyed work queue: nothing twice at once, nothing lost, nothing earlier than it was asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.reconcile.workqueue import WorkQueue, run_worker


class Clock:
    """Monotonic seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock)


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _waiting(queue: WorkQueue[str]) -> AsyncIterator[asyncio.Task[str]]:
    """A caller of `get` who waits; it is sent away at the end."""
    task = asyncio.create_task(queue.get())
    await _turns()
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_key_that_waits_already_is_worked_on_once(queue: WorkQueue[str]) -> None:
    for _ in range(3):
        queue.add("a")
    assert len(queue) == 1
    assert await queue.get() == "a"
    assert len(queue) == 0
    async with _waiting(queue) as second:
        assert not second.done()


async def test_keys_come_in_the_order_in_which_they_are_due(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("late", 3)
    queue.add("soon", 1)
    queue.add("between", 2)
    clock.now += 3
    assert [await queue.get() for _ in range(3)] == ["soon", "between", "late"]


async def test_keys_that_are_due_together_come_in_the_order_in_which_they_were_added(queue: WorkQueue[str]) -> None:
    for key in ("c", "a", "b"):
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["c", "a", "b"]


async def test_nothing_is_handed_out_before_it_is_due(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", 10)
    clock.now += 9.9
    async with _waiting(queue) as early:
        assert not early.done()
    clock.now += 0.1
    assert await queue.get() == "a"


async def test_an_event_brings_a_key_forward(queue: WorkQueue[str]) -> None:
    queue.add("a", 60)
    queue.add("a")
    assert len(queue) == 1
    assert await queue.get() == "a"
    assert len(queue) == 0


async def test_a_later_wish_does_not_put_a_key_off(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", 1)
    queue.add("a", 60)
    clock.now += 1
    assert await queue.get() == "a"
    assert len(queue) == 0


async def test_a_caller_who_waits_for_a_late_key_wakes_for_one_that_is_due_now(queue: WorkQueue[str]) -> None:
    queue.add("late", 600)
    async with _waiting(queue) as caller:
        queue.add("now")
        await _turns()
        assert caller.done()
        assert caller.result() == "now"


async def test_a_key_in_work_is_handed_to_nobody_else(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")
    async with _waiting(queue) as second:
        assert not second.done()


async def test_a_key_that_was_added_while_it_was_worked_on_comes_again(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.done("a", next_delay=60)
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0, "once more is enough, however often it was asked for"


async def test_the_sooner_of_two_wishes_during_the_work_counts(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a", 20)
    queue.add("a", 5)
    queue.add("a", 30)
    queue.done("a", next_delay=60)
    clock.now += 5
    assert await queue.get() == "a"


async def test_a_wish_that_is_overdue_when_the_work_ends_is_due_at_once(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a", 5)
    clock.now += 100
    queue.done("a", next_delay=60)
    assert await queue.get() == "a"


async def test_a_key_is_done_for_good_when_nobody_wants_it_again(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.done("a")
    assert len(queue) == 0
    async with _waiting(queue) as caller:
        assert not caller.done()


async def test_a_forgotten_key_does_not_come(queue: WorkQueue[str]) -> None:
    queue.add("gone")
    queue.forget("gone")
    queue.add("here")
    assert await queue.get() == "here"
    assert len(queue) == 0


@given(delays=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 50)), max_size=40))
def test_every_key_comes_once_at_the_earliest_time_that_was_asked_for(delays: list[tuple[str, int]]) -> None:
    async def play() -> list[tuple[str, float]]:
        clock = Clock()
        queue: WorkQueue[str] = WorkQueue(clock)
        for key, delay in delays:
            queue.add(key, delay)
        came = []
        for _ in range(51):
            while len(queue) and any(clock.now >= 100.0 + due for due in _earliest(delays).values()):
                task = asyncio.ensure_future(queue.get())
                await _turns(2)
                if not task.done():
                    task.cancel()
                    break
                came.append((task.result(), clock.now - 100.0))
            clock.now += 1.0
        return came

    came = asyncio.run(play())
    assert dict(came) == _earliest(delays)
    assert len(came) == len(_earliest(delays))


def _earliest(delays: list[tuple[str, int]]) -> dict[str, int]:
    earliest: dict[str, int] = {}
    for key, delay in delays:
        earliest[key] = min(delay, earliest.get(key, delay))
    return earliest


@contextlib.asynccontextmanager
async def _workers(
    count: int,
    queue: WorkQueue[str],
    reconcile: Callable[[str], Awaitable[float | None]],
    on_error: Callable[[str, Exception], float] = lambda key, error: 60.0,
) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(run_worker(queue, reconcile, on_error)) for _ in range(count)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_several_workers_share_the_keys_and_never_one_key(queue: WorkQueue[str]) -> None:
    working: set[str] = set()
    most, twice = 0, False
    calls: dict[str, int] = {}

    async def reconcile(key: str) -> float | None:
        nonlocal most, twice
        twice = twice or key in working
        working.add(key)
        most = max(most, len(working))
        calls[key] = calls.get(key, 0) + 1
        if calls[key] < 5:
            queue.add(key)  # an event while it is worked on
        await _turns(3)
        working.discard(key)
        return None

    async with _workers(3, queue, reconcile):
        for key in "abcde":
            queue.add(key)
        for _ in range(300):
            await asyncio.sleep(0)
    assert not twice
    assert most == 3
    assert calls == dict.fromkeys("abcde", 5)


async def test_a_failing_key_comes_again_after_its_back_off_and_ends_no_worker(
    queue: WorkQueue[str], clock: Clock
) -> None:
    seen: list[str] = []
    errors: list[tuple[str, Exception]] = []

    async def reconcile(key: str) -> float | None:
        seen.append(key)
        if key == "bad":
            raise RuntimeError("it fails")
        return None

    def on_error(key: str, error: Exception) -> float:
        errors.append((key, error))
        return 30.0

    async with _workers(1, queue, reconcile, on_error) as tasks:
        queue.add("bad")
        queue.add("good")
        await _turns(20)
        assert seen == ["bad", "good"]
        assert [key for key, _ in errors] == ["bad"]
        clock.now += 29
        queue.add("good")
        await _turns(20)
        assert seen == ["bad", "good", "good"]
        clock.now += 1
        queue.add("good")
        await _turns(20)
        assert seen.count("bad") == 2
        assert not tasks[0].done()


async def test_a_worker_that_is_stopped_gives_its_key_back(queue: WorkQueue[str]) -> None:
    begun = asyncio.Event()

    async def reconcile(key: str) -> float | None:
        begun.set()
        await asyncio.Event().wait()
        return None

    async with _workers(1, queue, reconcile):
        queue.add("a")
        await begun.wait()
        queue.add("a")
    assert await queue.get() == "a", "what was asked for meanwhile is not lost"

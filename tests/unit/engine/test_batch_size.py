"""The size of the batch by the time between tokens: its bounds, where it settles, and who waits how long."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.asgi import ask, until
from tests.unit.engine.test_engine_api import House
from tests.unit.engine.test_engine_limits import BASE, CAPACITY
from trimtab_engine.engines.common.line import Line
from trimtab_engine.engines.common.size import ROOM, WINDOW_SECONDS, BatchSize, percentile
from trimtab_engine.limits.batching import Batching, batching_from_json
from trimtab_engine.limits.limits import Limits
from trimtab_engine.limits.parse import Refused
from trimtab_engine.limits.settings import Settings, fitting, read_settings
from trimtab_engine.shared.wanted import Wanted, WantedFile

ADAPTIVE = replace(CAPACITY, adaptive=True)


def limits(most: int) -> Limits:
    return Limits(max_running_requests=most, max_tokens_per_step=4096)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.floats(0.0001, 1), st.integers(0, 40), st.integers(0, 9), st.floats(0, 1)), max_size=30),
    st.integers(1, 32),
    st.integers(1, 40),
    st.none() | st.floats(0.001, 1),
)
def test_whatever_is_measured_the_size_is_within_its_bounds(
    looks: list[tuple[float, int, int, float]], most: int, fewest: int, target: float | None
) -> None:
    size, now = BatchSize(0), 0.0
    batching = Batching(target_token_seconds=target, fewest_requests=fewest)
    for gap, running, waiting, passes in looks:
        now += passes
        size.note([gap] * running)
        size.look(limits(most), batching, now=now, running=running, waiting=waiting)
        allowed = size.allowed(limits(most), batching, held=0)
        assert min(fewest, most) <= allowed <= most
        assert size.allowed(limits(most), batching, held=1) == most
        assert target is not None or allowed == most


@settings(max_examples=100)
@given(st.floats(0.001, 0.05), st.floats(0.0005, 0.02), st.floats(0.01, 0.4), st.integers(2, 64))
def test_under_load_it_settles_below_the_target_and_not_far_below(
    fixed: float, each: float, target: float, most: int
) -> None:
    """A step takes a fixed time and some more for each request; more requests wait than may run."""
    batching, size, now = Batching(target_token_seconds=target), BatchSize(0), 0.0
    within = []
    for turn in range(160):
        running = size.allowed(limits(most), batching, held=0)
        step = fixed + each * running
        size.note([step] * max(running, 16))
        now += max(step, WINDOW_SECONDS)
        size.look(limits(most), batching, now=now, running=running, waiting=5)
        if turn >= 80:
            within.append((running, step))
    best = max(1, min(most, int((target - fixed) / each)))
    raised = max(1, most // 16)
    sizes = sorted(running for running, _ in within)
    assert sizes[-1] <= best + raised
    assert sizes[len(sizes) // 2] >= min(best, int((ROOM * target - fixed) / each)) * 0.5
    if fixed + each > target:
        assert sizes[-1] == 1  # the target cannot be met: as few as may be


@settings(max_examples=150)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    below = [value for value in values if value < found]
    assert len(below) < share * len(values) + 1e-9


def test_nothing_is_concluded_from_a_few_tokens_or_a_moment() -> None:
    batching, size = Batching(target_token_seconds=0.01), BatchSize(0)
    size.note([1.0] * 15)
    size.look(limits(8), batching, now=10, running=4, waiting=1)
    assert size.allowed(limits(8), batching, held=0) == 8
    size.note([1.0])
    size.look(limits(8), batching, now=10, running=4, waiting=1)
    assert size.allowed(limits(8), batching, held=0) == 2


async def test_who_waits_because_of_the_size_is_taken_up_when_the_time_is_over() -> None:
    line = Line(lambda held: 2 if held >= 0.02 else 1, room=100)
    inside = asyncio.Event()

    async def hold() -> None:
        async with line.turn(10):
            await inside.wait()

    holding = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    assert (line.running, line.waiting) == (1, 2)

    async def keep_looking() -> None:
        while line.running < 2:
            line.move_up()
            await asyncio.sleep(0.001)

    await asyncio.wait_for(keep_looking(), 20)
    assert (line.running, line.waiting) == (2, 1)
    inside.set()
    await asyncio.gather(*holding)


# As settings.


def read(document: object, base: Settings | None = None) -> Settings | Refused:
    return read_settings(document, base=base or Settings(limits=BASE), capacity=ADAPTIVE)


def test_what_is_named_changes_and_the_rest_stays() -> None:
    before = Settings(limits=BASE, batching=Batching(target_token_seconds=0.1, longest_hold_seconds=3))
    after = read({"batching": {"target_token_seconds": 0.05}}, before)
    assert after == replace(before, batching=Batching(target_token_seconds=0.05, longest_hold_seconds=3))
    off = read({"batching": {"target_token_seconds": None}}, before)
    assert isinstance(off, Settings) and off.batching.target_token_seconds is None
    assert batching_from_json(json.loads(json.dumps(before.batching.as_json()))) == before.batching


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"target_token_seconds": 0}, "batching.target_token_seconds"),
        ({"target_token_seconds": "fast"}, "batching.target_token_seconds"),
        ({"fewest_requests": 0}, "batching.fewest_requests"),
        ({"fewest_requests": 10_000}, "batching.fewest_requests"),
        ({"longest_hold_seconds": None}, "batching.longest_hold_seconds"),
        ({"target_seconds": 1}, "batching.target_seconds"),
        ({10**5000: 1}, "batching.a huge number"),  # more digits than Python writes
        ([], "batching"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(document: object, field: str) -> None:
    outcome = read({"batching": document})
    assert isinstance(outcome, Refused)
    assert [problem.field for problem in outcome.problems] == [field]


def test_an_engine_that_batches_by_itself_takes_no_target() -> None:
    document = {"batching": {"target_token_seconds": 0.05}}
    outcome = read_settings(document, base=Settings(limits=BASE), capacity=CAPACITY)
    assert isinstance(outcome, Refused) and "vLLM batches by itself" in outcome.sentence()
    asked = Settings(limits=BASE, batching=Batching(target_token_seconds=0.05, fewest_requests=2))
    assert fitting(asked, CAPACITY).batching == Batching(fewest_requests=2)
    assert fitting(asked, ADAPTIVE).batching == asked.batching


async def test_the_api_follows_the_target_of_the_settings(tmp_path: Path) -> None:
    house = House(tmp_path, "x" * 60)
    tight = Batching(target_token_seconds=0.001)
    wanted: dict[str, Any] = {"revision": 2, "source": "file", "since": ""}

    def want(batching: Batching, revision: int) -> None:
        new = Wanted(**{**wanted, "revision": revision}, limits=limits(4), batching=batching)
        WantedFile(tmp_path).change(lambda _: new)

    want(tight, 2)
    house.letters.pause = 0.01  # between two tokens: more than the target, however slow the machine is
    started = asyncio.Event()

    async def receive() -> Any:
        if not started.is_set():
            return {"type": "lifespan.startup"}
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(_: Any) -> None:
        started.set()

    living = asyncio.create_task(house.api({"type": "lifespan"}, receive, send))
    await until(lambda: house.letters.limits is not None)
    body = json.dumps({"prompt": "abc", "max_tokens": 55}).encode()
    asking = [asyncio.create_task(ask(house.api, "POST", "/v1/completions", body=body)) for _ in range(6)]
    await until(lambda: house.sample("trimtab_engine_batch_requests") in (1, 2))
    assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 6
    want(Batching(), 3)
    await until(lambda: house.sample("trimtab_engine_batch_requests") == 4)
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)

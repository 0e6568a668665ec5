"""Who may come in, and how fast the engine is known to be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_engine.admission.decide import LONGEST_RETRY_SECONDS, Load, Why, admit, waiting
from trimtab_engine.admission.pace import Pace
from trimtab_engine.limits.limits import Limits

OPEN = Limits(max_running_requests=4, max_tokens_per_step=512)
QUEUE = replace(OPEN, max_queued_requests=2)
WAIT = replace(OPEN, max_wait_seconds=2.0)


def test_without_bounds_everybody_comes_in() -> None:
    load = Load(inside=100_000, running=4, waiting=99_996, seconds_per_completion=9.0)
    assert admit(load, OPEN) is None


@pytest.mark.parametrize(("inside", "comes_in"), [(0, True), (3, True), (4, True), (5, True), (6, False), (60, False)])
def test_a_full_queue_refuses(inside: int, comes_in: bool) -> None:
    refusal = admit(Load(inside=inside, running=min(inside, 4)), QUEUE)
    assert (refusal is None) == comes_in
    if refusal is not None:
        assert refusal.why is Why.QUEUE_FULL
        assert refusal.message == f"The queue is full: {inside - 4} requests wait, and 2 may."
        assert refusal.retry_after_seconds == 1


def test_a_queue_of_none_lets_in_what_runs_at_once() -> None:
    none = replace(OPEN, max_queued_requests=0)
    assert [admit(Load(inside=inside), none) is None for inside in range(6)] == [True] * 4 + [False] * 2


def test_requests_that_wait_for_memory_wait_although_few_run() -> None:
    assert waiting(Load(inside=4, running=1, waiting=3), OPEN) == 3
    assert admit(Load(inside=4, running=1, waiting=3), QUEUE) is not None


def test_after_the_limit_was_lowered_those_that_run_on_do_not_wait() -> None:
    assert waiting(Load(inside=16, running=16), replace(QUEUE, max_running_requests=1)) == 0


def test_an_old_number_of_the_engine_does_not_refuse_for_ever() -> None:
    assert admit(Load(inside=0, running=0, waiting=50), QUEUE) is None


def test_a_wait_that_would_be_too_long_refuses_with_the_time_to_come_back() -> None:
    refusal = admit(Load(inside=10, running=4, seconds_per_completion=0.5), WAIT)
    assert refusal is not None
    assert refusal.why is Why.WAIT_TOO_LONG
    assert refusal.message == "A request would wait for about 3.5 s, and 2 s are allowed."
    assert refusal.retry_after_seconds == 2
    assert admit(Load(inside=6, running=4, seconds_per_completion=0.5), WAIT) is None


def test_an_unknown_speed_refuses_nobody_before_somebody_has_waited_too_long() -> None:
    assert admit(Load(inside=1000, running=4, waited_seconds=1.9), WAIT) is None
    refusal = admit(Load(inside=1000, running=4, waited_seconds=2.5), WAIT)
    assert refusal is not None
    assert refusal.message == "A request would wait for about 2.5 s, and 2 s are allowed."


def test_an_engine_that_became_slower_is_seen_by_who_waits_before_its_speed_is_known_to_be_another() -> None:
    assert admit(Load(inside=6, running=4, seconds_per_completion=0.1, waited_seconds=5.0), WAIT) is not None
    # There is room to run: how long somebody waits for something else says nothing of it.
    assert admit(Load(inside=3, running=1, waiting=2, seconds_per_completion=0.1, waited_seconds=5.0), WAIT) is None


@given(st.integers(0, 10_000), st.integers(0, 100), st.integers(0, 10_000), st.none() | st.floats(0, 1e6))
def test_the_time_to_come_back_is_a_small_whole_number(
    inside: int, running: int, queued: int, speed: float | None
) -> None:
    load = Load(inside=inside, running=running, waiting=queued, seconds_per_completion=speed)
    refusal = admit(load, replace(QUEUE, max_wait_seconds=0.1))
    assert refusal is None or 1 <= refusal.retry_after_seconds <= LONGEST_RETRY_SECONDS
    assert 0 <= waiting(load, QUEUE) <= inside


def test_the_speed_is_that_of_full_time_only() -> None:
    pace = Pace(since=0.0)
    for second in range(1, 11):
        pace = pace.at(100.0 * second, full=False).completed(full=False)
    assert pace.seconds_per_completion() is None
    for second in range(1, 11):
        pace = pace.at(1000.0 + second / 2, full=True).completed(full=True)
    assert pace.seconds_per_completion() == pytest.approx(0.5, rel=0.1)


def test_what_was_fast_long_ago_is_forgotten() -> None:
    pace = Pace(since=0.0)
    for step in range(1, 401):
        pace = pace.at(step * 0.1, full=True).completed(full=True)
    for step in range(1, 201):
        pace = pace.at(40.0 + step, full=True).completed(full=True)
    assert pace.seconds_per_completion() == pytest.approx(1.0, rel=0.1)


def test_a_clock_that_stands_changes_nothing() -> None:
    pace = Pace(since=5.0, seconds=3.0, completions=4.0)
    assert pace.at(5.0, full=True) == pace
    assert pace.at(4.0, full=True) == pace

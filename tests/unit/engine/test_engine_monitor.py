"""Sliding percentiles, the load score, the grade and the report, with times that are passed in."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab_engine.limits.limits import Limits
from trimtab_engine.monitor.measured import Outcome
from trimtab_engine.monitor.monitor import Monitor
from trimtab_engine.monitor.report import ReportFacts, grade, recommendations, report
from trimtab_engine.monitor.score import LoadFacts, load_score
from trimtab_engine.monitor.slots import Slots

LIMITS = Limits(max_running_requests=8, max_tokens_per_step=512)


def test_percentiles_are_those_of_the_window_and_older_values_are_forgotten() -> None:
    monitor = Monitor(history_minutes=5)
    for second in range(60):
        monitor.first_token(float(second), ttft=10.0)
    for number in range(1, 1001):
        monitor.first_token(100 + number / 100, ttft=number / 1000)
    found = monitor.window(110.0, 30).ttft
    assert found is not None
    assert found.count == 1000
    assert (found.p50, found.p95, found.p99) == pytest.approx((0.5, 0.95, 0.99), rel=0.01)
    whole = monitor.window(110.0, 300).ttft
    assert whole is not None
    assert whole.count == 1060
    assert whole.p99 == pytest.approx(10.0)
    assert monitor.window(500.0, 60).ttft is None


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 200), st.floats(1e-4, 100)), min_size=1, max_size=60), st.integers(1, 100))
def test_a_percentile_lies_within_the_values_of_its_window_by_rank(
    values: list[tuple[float, float]], span: int
) -> None:
    slots = Slots(seconds=1.0, count=300)
    for at, value in sorted(values):
        slots.at(at).latency.update(value)
    now = 200.0
    inside = sorted(value for at, value in values if now - span < int(at) <= now)
    found = slots.window(now, span).latency
    assert (found is None) == (not inside)
    if found is not None:
        assert found.count == len(inside)
        order = (inside[0], found.p50, found.p95, found.p99, inside[-1])
        # Means of equal values differ in their last bits.
        assert all(lower <= upper * (1 + 1e-9) for lower, upper in pairwise(order))


@settings(max_examples=100)
@given(st.integers(), st.integers(300, 2000), st.floats(0.1, 2))
def test_percentiles_of_many_slots_together_are_those_of_their_values(seed: int, count: int, wide: float) -> None:
    chance = Random(seed)
    slots = Slots(seconds=1.0, count=300)
    values = [chance.lognormvariate(-3, wide) for _ in range(count)]
    for number, value in enumerate(values):
        slots.at(number * 299 / count).itl.update(value)
    found = slots.window(299.0, 300).itl
    assert found is not None
    # Centroids are largest in the middle, and those of merged digests up to twice as large.
    for percentile, share, error in ((found.p50, 0.5, 0.02), (found.p95, 0.95, 0.01), (found.p99, 0.99, 0.01)):
        assert sum(value <= percentile for value in values) / count == pytest.approx(share, abs=error)


def test_the_error_share_leaves_out_what_is_the_clients_fault() -> None:
    monitor = Monitor(history_minutes=5)
    for outcome in (*[Outcome.SUCCEEDED] * 6, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INVALID, Outcome.ABORTED):
        monitor.ended(1.0, outcome, latency=None, prompt_tokens=2)
    window = monitor.window(1.0, 10)
    assert (window.error_share, window.prompt_tokens) == (0.25, 20)
    assert json.loads(json.dumps(window.as_json()))["requests"]["aborted"] == 1


def test_a_minute_is_part_of_the_history_when_it_is_over_and_only_so_many_are_kept() -> None:
    monitor = Monitor(history_minutes=3)
    for minute in range(10):
        monitor.tokens(minute * 60.0, gaps=[], count=minute)
    history = monitor.history(9 * 60.0 + 30)
    assert [(since, window.output_tokens) for since, window in history] == [(360.0, 6), (420.0, 7), (480.0, 8)]


@pytest.mark.parametrize(
    ("success", "latency", "expected"),
    [
        (1.0, 0.1, "A+"),
        (0.99, 0.101, "A"),
        (0.989, 0.05, "A"),
        (0.95, 0.2, "A"),
        (0.949, 0.2, "B"),
        (1.0, 0.5, "B"),
        (1.0, 0.51, "C"),
        (0.8, 99.0, "C"),
        (0.79, 0.01, "D"),
        (1.0, None, "C"),
        (None, 0.1, None),
    ],
)
def test_grades_have_the_bounds_that_the_requirements_name(
    success: float | None, latency: float | None, expected: str | None
) -> None:
    assert grade(success=success, latency=latency) == expected


@settings(max_examples=100)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 10), st.floats(0, 10))
def test_a_better_server_never_has_a_worse_grade(one: float, other: float, fast: float, slow: float) -> None:
    order = ["D", "C", "B", "A", "A+"]
    best = grade(success=max(one, other), latency=min(fast, slow))
    worst = grade(success=min(one, other), latency=max(fast, slow))
    assert best is not None and worst is not None
    assert order.index(best) >= order.index(worst)


@settings(max_examples=100)
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 1), st.integers(1, 512))
def test_the_load_is_between_0_and_1_and_grows_with_what_is_there(
    running: int, queued: int, cache: float, limit: int
) -> None:
    limits = replace(LIMITS, max_running_requests=limit)
    facts = LoadFacts(running=running, waiting=queued, kv_usage=cache)
    score = load_score(facts, limits)
    assert 0 <= score <= 1
    assert load_score(replace(facts, waiting=queued + 1), limits) >= score
    assert load_score(replace(facts, running=running + 1), limits) >= score


def test_an_idle_server_has_no_load_and_one_with_a_full_queue_all_of_it() -> None:
    assert load_score(LoadFacts(running=0, waiting=0, kv_usage=0.0), LIMITS) == 0
    assert load_score(LoadFacts(running=8, waiting=0, kv_usage=0.2), LIMITS) == 0.5
    full = replace(LIMITS, max_queued_requests=4)
    assert load_score(LoadFacts(running=8, waiting=4, kv_usage=0.2), full) == 1


def test_the_report_grades_the_window_and_each_minute_and_says_what_would_help() -> None:
    monitor = Monitor(history_minutes=5)
    for at in (10.0, 70.0, 71.0):
        monitor.first_token(at, ttft=0.15)
        monitor.ended(at, Outcome.SUCCEEDED, latency=2.0, prompt_tokens=1)
    monitor.ended(71.0, Outcome.FAILED, latency=None, prompt_tokens=0)
    facts = ReportFacts(
        window=monitor.window(75.0, 30),
        history=monitor.history(75.0),
        load=0.9,
        kv_usage=0.95,
        waiting=3,
        refused_total=2,
    )
    epoch = datetime(2026, 1, 2, 3, 4, tzinfo=UTC).timestamp()
    told = json.loads(json.dumps(report(facts, wall=lambda at: epoch + at)))
    assert (told["grade"], told["graded_by"]) == ("D", "time_to_first_token_p95")
    (minute,) = told["history"]
    assert (minute["since"], minute["grade"]) == ("2026-01-02T03:04:00+00:00", "A")
    assert len(told["recommendations"]) == 3
    assert told["recommendations"][0].startswith("33.3 % of the requests failed")
    calm = replace(facts, window=Monitor(history_minutes=1).window(75.0, 30), kv_usage=0.1, waiting=0, refused_total=0)
    assert recommendations(calm) == []

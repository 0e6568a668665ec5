"""The tuner: rule by rule, what always holds, and on a queueing model, where it must find what is best."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.queueing import CAPACITY, Model, drive
from trimtab_engine.limits.limits import Limits, within
from trimtab_engine.tuner.facts import Action, Measured, Reason, Targets
from trimtab_engine.tuner.tuner import FIRST_BACK_OFF, begin, step

TARGETS = Targets(ttft=1.0, itl=0.05)
LIMITS = Limits(max_running_requests=8, max_tokens_per_step=512)
CALM = Measured(
    seconds=5,
    ttft=0.5,
    first_tokens=100,
    itl=0.02,
    gaps=1000,
    tokens_per_second=200,
    error_share=0.0,
    ended=50,
    refused=0,
    running=4,
    waiting=0,
)
BUSY = replace(CALM, running=8, waiting=5)


def one(measured: Measured, limits: Limits = LIMITS, targets: Targets = TARGETS, **memory: Any) -> Any:
    return step(replace(begin(limits), **memory), measured, targets=targets, capacity=CAPACITY)


@pytest.mark.parametrize(
    ("measured", "limits", "memory", "expected"),
    [
        (CALM, LIMITS, {}, (Action.HOLD, Reason.SETTLED, None)),
        (replace(CALM, first_tokens=7), LIMITS, {}, (Action.HOLD, Reason.TOO_LITTLE_MEASURED, None)),
        (BUSY, LIMITS, {}, (Action.RAISE, Reason.REQUESTS_WAIT, 16)),
        (BUSY, LIMITS, {"fast": False}, (Action.RAISE, Reason.REQUESTS_WAIT, 12)),
        (replace(BUSY, itl=0.045), LIMITS, {}, (Action.HOLD, Reason.SETTLED, None)),
        (replace(BUSY, itl=0.052), LIMITS, {}, (Action.LOWER, Reason.ITL_ABOVE_TARGET, 7)),
        (replace(BUSY, itl=0.2), LIMITS, {}, (Action.LOWER, Reason.ITL_ABOVE_TARGET, 4)),
        (
            replace(BUSY, itl=0.2, running=1),
            replace(LIMITS, max_running_requests=1),
            {},
            (Action.LOWER, Reason.ITL_ABOVE_TARGET, 256),
        ),
        (replace(BUSY, ttft=2.0), LIMITS, {"fast": False}, (Action.RAISE, Reason.TTFT_ABOVE_TARGET, 12)),
        (
            replace(BUSY, ttft=2.0),
            LIMITS,
            {"blocked": "max_running_requests", "back_off": 3},
            (Action.RAISE, Reason.TTFT_ABOVE_TARGET, 576),
        ),
        (replace(BUSY, ttft=2.0, itl=0.045), LIMITS, {}, (Action.LOWER, Reason.TTFT_ABOVE_TARGET, 1.0)),
        (
            replace(BUSY, ttft=2.0, itl=0.045),
            replace(LIMITS, max_wait_seconds=0.8),
            {},
            (Action.LOWER, Reason.TTFT_ABOVE_TARGET, 0.4),
        ),
        (
            replace(CALM, refused=9),
            replace(LIMITS, max_wait_seconds=0.4),
            {"start": LIMITS},
            (Action.RAISE, Reason.WAIT_BELOW_TARGET, 0.5),
        ),
        (
            replace(CALM, refused=9),
            replace(LIMITS, max_wait_seconds=9.95),
            {"start": LIMITS},
            (Action.RAISE, Reason.WAIT_BELOW_TARGET, None),
        ),
        (
            replace(BUSY, itl=0.2, running=1, waiting=1),
            Limits(max_running_requests=1, max_tokens_per_step=1),
            {},
            (Action.HOLD, Reason.AT_THE_BOUND, None),
        ),
    ],
)
def test_each_rule_moves_its_limit_and_says_why(
    measured: Measured, limits: Limits, memory: dict[str, Any], expected: tuple[Action, Reason, float | None]
) -> None:
    _, decision = one(measured, limits, **memory)
    assert (decision.action, decision.reason, decision.after) == expected
    assert decision.message.endswith(".")


def test_without_the_right_to_refuse_nobody_is_refused() -> None:
    _, decision = one(replace(BUSY, ttft=2.0, itl=0.045), targets=replace(TARGETS, admission=False))
    assert (decision.action, decision.reason) == (Action.HOLD, Reason.AT_THE_BOUND)


def test_a_raise_that_misses_a_target_is_taken_back_and_not_tried_again_at_once() -> None:
    memory, raised = one(BUSY)
    assert raised.after == 16
    memory, back = step(memory, replace(BUSY, running=16, itl=0.08), targets=TARGETS, capacity=CAPACITY)
    assert (back.action, back.reason, back.limits) == (Action.ROLL_BACK, Reason.WORSE_THAN_BEFORE, LIMITS)
    seen = []
    for _ in range(FIRST_BACK_OFF + 1):
        memory, decision = step(memory, BUSY, targets=TARGETS, capacity=CAPACITY)
        seen.append(decision.limit)
        memory = replace(memory, trial=None, limits=LIMITS)
    assert seen[:-2].count("max_running_requests") == 0
    assert seen[-1] == "max_running_requests"


def test_a_raise_that_costs_throughput_is_taken_back() -> None:
    memory, _ = one(BUSY)
    slower = replace(BUSY, running=16, tokens_per_second=150)
    _, back = step(memory, slower, targets=TARGETS, capacity=CAPACITY)
    assert (back.action, back.limits) == (Action.ROLL_BACK, LIMITS)
    _, kept = step(memory, replace(slower, waiting=0), targets=TARGETS, capacity=CAPACITY)
    assert kept.action is not Action.ROLL_BACK  # fewer requests came: that says nothing of the limit


def test_requests_that_fail_bring_the_last_good_limits_back() -> None:
    memory, _ = one(BUSY)
    failing = replace(BUSY, error_share=0.5, first_tokens=0, gaps=0)
    memory, back = step(memory, failing, targets=TARGETS, capacity=CAPACITY)
    assert (back.action, back.reason, back.limits) == (Action.ROLL_BACK, Reason.REQUESTS_FAIL, LIMITS)
    assert memory.good == LIMITS


maybe = st.none() | st.floats(1e-4, 100)
windows = st.builds(
    Measured,
    seconds=st.floats(1, 100),
    ttft=maybe,
    first_tokens=st.integers(0, 100),
    itl=maybe,
    gaps=st.integers(0, 1000),
    tokens_per_second=st.floats(0, 1e5),
    error_share=st.none() | st.floats(0, 1),
    ended=st.integers(0, 100),
    refused=st.integers(0, 100),
    running=st.integers(0, 64),
    waiting=st.integers(0, 100),
)
some_limits = st.builds(
    Limits,
    max_running_requests=st.integers(1, 64),
    max_tokens_per_step=st.integers(64, 1024),
    max_wait_seconds=st.none() | st.floats(0.1, 100),
)
some_targets = st.builds(
    Targets,
    ttft=st.none() | st.floats(0.01, 10),
    itl=st.floats(0.001, 1),
    fewest_running=st.integers(1, 8),
    admission=st.booleans(),
)


@settings(max_examples=300)
@given(some_limits, some_targets, st.lists(windows, min_size=1, max_size=20))
def test_whatever_is_measured_the_limits_stay_within_what_the_engine_can_do(
    limits: Limits, targets: Targets, seen: list[Measured]
) -> None:
    memory = begin(limits)
    for measured in seen:
        before = memory.limits
        memory, decision = step(memory, measured, targets=targets, capacity=CAPACITY)
        after = memory.limits
        assert decision.limits == after
        assert within(after, CAPACITY) == after
        assert decision.changes or after == before
        assert after.max_wait_seconds is None or after.max_wait_seconds >= 0.1
        changed = sum(before.as_json()[name] != value for name, value in after.as_json().items())
        assert changed <= 1 or decision.action is Action.ROLL_BACK
        if not targets.admission:
            assert after.max_wait_seconds == limits.max_wait_seconds


@settings(max_examples=200)
@given(some_limits, windows, st.floats(1.01, 100))
def test_a_missed_time_between_tokens_never_raises_what_runs(limits: Limits, measured: Measured, over: float) -> None:
    late = replace(measured, itl=over * 0.05, gaps=1000, first_tokens=100, error_share=0.0)
    _, decision = one(late, limits)
    assert decision.limits.max_running_requests <= limits.max_running_requests
    assert decision.limits.max_tokens_per_step <= limits.max_tokens_per_step


@settings(max_examples=200)
@given(some_limits, windows, st.floats(0.85, 1.0))
def test_within_the_band_below_the_target_nothing_that_runs_is_changed(
    limits: Limits, measured: Measured, near: float
) -> None:
    still = replace(measured, itl=near * 0.05, ttft=0.5, gaps=1000, first_tokens=100, error_share=0.0, refused=0)
    _, decision = one(still, limits)
    assert decision.action is Action.HOLD


def best_static(clients: int, targets: Targets, **model: Any) -> float:
    """Tokens per second of the best number of running requests whose time between tokens meets the target."""
    found = []
    for running in (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64):
        one_model = Model(clients=clients, **model)
        limits = replace(LIMITS, max_running_requests=running, max_tokens_per_step=1024)
        one_model.run(10, limits)
        measured = one_model.run(20, limits)
        if measured.itl is not None and targets.itl is not None and measured.itl <= targets.itl:
            found.append(measured.tokens_per_second)
    return max(found)


@pytest.mark.parametrize("running", [1, 8, 64])
@pytest.mark.parametrize("clients", [20, 100])
def test_from_any_start_it_comes_within_a_tenth_of_the_best_that_meets_the_target(running: int, clients: int) -> None:
    targets = Targets(ttft=None, itl=0.045)
    limits = replace(LIMITS, max_running_requests=running, max_tokens_per_step=1024)
    memory, seen = drive(Model(clients=clients), limits, targets, windows=40)
    tail = seen[-15:]
    mean = sum(measured.tokens_per_second for _, measured in tail) / len(tail)
    assert mean >= 0.9 * best_static(clients, targets)
    met = [measured for _, measured in tail if measured.itl is not None and measured.itl <= 0.045 * 1.05]
    assert len(met) >= 13
    assert memory.effect(targets) is not None


def test_it_comes_to_rest() -> None:
    targets = Targets(ttft=None, itl=0.045)
    _, seen = drive(Model(clients=100), replace(LIMITS, max_running_requests=2), targets, windows=120)
    late = [limits for limits, _ in seen[60:]]
    changes = sum(one != other for one, other in pairwise(late))
    assert changes <= 8


def test_beyond_a_knee_more_at_once_is_less_and_it_stays_before_it() -> None:
    """No target but the first token's: only throughput tells that the engine is past its best."""
    targets = Targets(ttft=60.0, itl=None)
    limits = replace(LIMITS, max_running_requests=2, max_tokens_per_step=1024)
    memory, seen = drive(Model(clients=100, knee=24), limits, targets, windows=60)
    assert memory.limits.max_running_requests <= 32
    best = max(
        Model(clients=100, knee=24).run(30, replace(limits, max_running_requests=n)).tokens_per_second
        for n in (8, 16, 20, 24, 28, 32)
    )
    tail = [measured.tokens_per_second for _, measured in seen[-15:]]
    assert sum(tail) / len(tail) >= 0.85 * best


def test_when_the_engine_becomes_slower_it_follows() -> None:
    targets = Targets(ttft=None, itl=0.045)
    model = Model(clients=100)
    memory, _ = drive(model, replace(LIMITS, max_running_requests=2), targets, windows=30)
    before = memory.limits.max_running_requests
    model.each = 0.003
    for _ in range(12):
        measured = model.run(5.0, memory.limits)
        memory, _ = step(memory, measured, targets=targets, capacity=CAPACITY)
    assert memory.limits.max_running_requests < 0.6 * before
    assert (model.run(5.0, memory.limits).itl or 1) <= 0.045


def test_overload_is_refused_until_the_first_token_comes_in_time() -> None:
    targets = Targets(ttft=2.0, itl=0.045)
    limits = replace(LIMITS, max_running_requests=16, max_tokens_per_step=1024)
    _, seen = drive(Model(clients=200), limits, targets, windows=60)
    tail = seen[-10:]
    assert tail[-1][0].max_wait_seconds is not None
    late = [measured for _, measured in tail if measured.ttft is None or measured.ttft > 2.0 * 1.15]
    assert len(late) <= 2

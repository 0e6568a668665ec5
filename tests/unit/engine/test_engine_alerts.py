"""What is out of the ordinary, when it is told, and that it reaches a webhook and a real Alertmanager."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alertmanager.program import alertmanager
from tests.unit.engine.sinks import hanging, sink
from tests.unit.engine.test_engine_gate import House
from trimtab_engine.alerts.book import Book, Message, Rules
from trimtab_engine.alerts.change import LEARN, NEW_NORMAL, Level
from trimtab_engine.alerts.detect import Finding, Levels, Reading, Severity, Thresholds, over_thresholds
from trimtab_engine.monitor.measured import Outcome, Percentiles, Window

RULES = Rules(pending_seconds=10, resolve_seconds=30, repeat_seconds=300, messages_per_minute=6)
SLOW = Finding(name="SlowFirstToken", severity=Severity.WARNING, message="0.7 s.")
ERRORS = Finding(name="HighErrorRate", severity=Severity.CRITICAL, message="50 %.")


def percentiles(p50: float, p95: float, count: int = 100) -> Percentiles:
    return Percentiles(count=count, p50=p50, p95=p95, p99=p95)


def window(failed: int = 0, succeeded: int = 100, ttft: float = 0.1, tokens: int = 6000) -> Window:
    return Window(
        seconds=60,
        outcomes={Outcome.SUCCEEDED: succeeded, Outcome.FAILED: failed},
        prompt_tokens=0,
        output_tokens=tokens,
        ttft=percentiles(ttft / 2, ttft),
        itl=percentiles(0.01, 0.02),
        latency=percentiles(1, 2),
    )


def reading(**changes: Any) -> Reading:
    one = Reading(window=window(), latest=window(), kv_usage=0.5, inside=4, waiting=1)
    return replace(one, **changes)


LIMITS = Thresholds(
    error_percent=5,
    ttft_p95_seconds=0.5,
    latency_p95_seconds=10,
    kv_usage_percent=95,
    least_tokens_per_second=50,
    effect_percent=10,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"window": window(failed=5, succeeded=95)}, []),
        ({"window": window(failed=6, succeeded=94)}, [("HighErrorRate", "warning")]),
        ({"window": window(failed=50, succeeded=50)}, [("HighErrorRate", "critical")]),
        ({"window": window(failed=4, succeeded=0)}, []),  # too few to tell
        ({"window": window(ttft=0.7)}, [("SlowFirstToken", "warning")]),
        ({"window": window(ttft=1.1)}, [("SlowFirstToken", "critical")]),
        ({"kv_usage": 0.96}, [("CacheFull", "warning")]),
        ({"window": window(tokens=2400)}, [("LowThroughput", "warning")]),
        ({"window": window(tokens=0)}, [("LowThroughput", "critical")]),
        ({"window": window(tokens=0), "inside": 0}, []),
        ({"tuned": True, "targets_missed": True, "effect": 0.05}, [("TunerWithoutEffect", "warning")]),
        ({"tuned": True, "targets_missed": True, "effect": 0.2}, []),
        ({"tuned": True, "targets_missed": False, "effect": 0.05}, []),
    ],
)
def test_each_threshold_is_told_when_it_is_passed_and_not_before(
    changes: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    found = list(over_thresholds(reading(**changes), LIMITS))
    assert [(finding.name, finding.severity.value) for finding in found] == expected
    assert list(over_thresholds(reading(**changes), Thresholds())) == []


def level_of(values: list[float], *, upwards: bool = True) -> list[bool]:
    level, seen = Level(upwards=upwards), []
    for value in values:
        level = level.read(math.log(value))
        seen.append(level.changed)
    return seen


@settings(max_examples=100)
@given(st.integers(), st.floats(0.001, 100), st.floats(0.01, 0.3), st.booleans())
def test_a_steady_series_has_no_change_and_a_large_one_is_found_soon(
    seed: int, usual: float, noise: float, upwards: bool
) -> None:
    chance = Random(seed)
    steady = [usual * math.exp(chance.gauss(0, noise)) for _ in range(LEARN + 40)]
    factor = math.exp(8 * max(noise, 0.05))
    shifted = [value * (factor if upwards else 1 / factor) for value in steady[:12]]
    assert not any(level_of(steady[:LEARN], upwards=upwards))
    assert any(level_of(steady[:LEARN] + shifted, upwards=upwards))
    other_way = [value / (factor if upwards else 1 / factor) for value in steady[:12]]
    assert not any(level_of(steady[:LEARN] + other_way, upwards=upwards))


def test_false_changes_are_rare() -> None:
    chance = Random(7)
    alarms = 0
    for _ in range(20):
        seen = level_of([math.exp(chance.gauss(0, 0.2)) for _ in range(500)])
        alarms += sum(after and not before for before, after in pairwise(seen))
    assert alarms <= 5  # of 10,000 readings


def test_a_new_level_becomes_the_usual_one_after_a_while() -> None:
    chance = Random(1)
    values = [0.1 * math.exp(chance.gauss(0, 0.05)) for _ in range(LEARN)]
    values += [0.3 * math.exp(chance.gauss(0, 0.05)) for _ in range(2 * LEARN + NEW_NORMAL + 20)]
    seen = level_of(values)
    assert any(seen)
    assert not any(seen[-10:])


def test_one_outlier_is_no_change_of_level() -> None:
    chance = Random(1)
    values = [0.1 * math.exp(chance.gauss(0, 0.05)) for _ in range(LEARN)]
    assert not any(level_of([*values, 100.0, *values]))


def test_throughput_counts_only_where_the_engine_is_full() -> None:
    levels = Levels()
    for _ in range(LEARN):
        assert list(levels.read(reading())) == []
    idle = [list(levels.read(reading(latest=window(tokens=60), waiting=0))) for _ in range(20)]
    assert not any(idle)
    full = [list(levels.read(reading(latest=window(tokens=60)))) for _ in range(20)]
    assert [finding.name for finding in full[-1]] == ["ThroughputFell"]


def test_what_does_not_last_is_not_told() -> None:
    book = Book(RULES)
    assert book.look([SLOW], 0.0) is None
    assert book.look([], 5.0) is None
    assert book.look([SLOW], 10.0) is None
    assert book.look([SLOW], 15.0) is None
    assert book.firing == ()


def test_what_lasts_is_told_once_again_after_a_while_and_when_it_is_over() -> None:
    book = Book(RULES)
    told: dict[float, Message] = {}
    for at in range(0, 1000, 5):
        findings = [SLOW, ERRORS] if at < 700 else []
        message = book.look(findings, float(at))
        if message is not None:
            told[at] = message
    assert list(told) == [10, 310, 610, 725]
    assert [alert.name for alert in told[10].firing] == ["SlowFirstToken", "HighErrorRate"]  # one message for both
    assert told[725].firing == ()
    assert {alert.name: alert.over for alert in told[725].resolved} == {"SlowFirstToken": 725, "HighErrorRate": 725}


def test_what_comes_and_goes_within_the_time_is_one_alert() -> None:
    book = Book(replace(RULES, pending_seconds=0))
    messages = [book.look([SLOW] if at % 20 == 0 else [], float(at)) for at in range(0, 280, 5)]
    assert [message is not None for message in messages].count(True) == 1


def test_a_worse_one_is_told_at_once() -> None:
    book = Book(RULES)
    book.look([SLOW], 0.0)
    assert book.look([SLOW], 10.0) is not None
    message = book.look([replace(SLOW, severity=Severity.CRITICAL)], 15.0)
    assert message is not None
    assert message.firing[0].severity is Severity.CRITICAL


names = st.sampled_from(["a", "b", "c", "d"])


@settings(max_examples=100)
@given(st.lists(st.sets(names), min_size=1, max_size=80), st.floats(1, 12))
def test_a_storm_sends_no_more_than_it_may_and_in_the_end_everything_is_told(
    storm: list[set[str]], per_minute: float
) -> None:
    rules = Rules(pending_seconds=0, resolve_seconds=0, repeat_seconds=1e9, messages_per_minute=per_minute)
    book = Book(rules)
    known: set[str] = set()
    sent: list[float] = []
    calm: list[set[str]] = [set()] * 130  # a minute later at the latest what waits has left
    for number, found in enumerate([*storm, *calm]):
        at = float(number)
        findings = [Finding(name=name, severity=Severity.WARNING, message="x") for name in sorted(found)]
        message = book.look(findings, at)
        if message is not None:
            sent.append(at)
            known = (known | {alert.name for alert in message.firing}) - {alert.name for alert in message.resolved}
    assert known == set()
    for at in sent:
        assert len([other for other in sent if at <= other < at + 60]) <= 2 * per_minute + 1


def alerting_house(folder: Path, **given: Any) -> House:
    """Every request fails, and alerts are told at once."""
    fields = {
        "alerts.enabled": True,
        "alerts.pending_seconds": 0,
        "alerts.resolve_seconds": 0,
        "alerts.interval_seconds": 0.5,
        "alerts.timeout_seconds": 60,
        "monitor.window_seconds": 10,
        **{f"alerts.{name}": value for name, value in given.items()},
    }
    return House(folder, **fields)


def look(house: House, at: float, *, failing: bool) -> None:
    keeper = house.gate.keeper
    assert keeper.alerting is not None
    outcomes = {Outcome.FAILED: 10} if failing else {Outcome.SUCCEEDED: 10}
    one = replace(window(), outcomes=outcomes)
    keeper.alerting.look(at, lambda _: reading(window=one, latest=one))


async def wait_for(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def test_a_webhook_gets_what_fires_and_what_is_over(tmp_path: Path) -> None:
    with sink() as hook:
        house = alerting_house(tmp_path, webhook=hook.url)
        for at, failing in ((0.0, True), (1.0, True), (2.0, False)):
            look(house, at, failing=failing)
        assert house.metric('trimtab_engine_alert_firing{alert="HighErrorRate",severity="critical"}') == 0
        await asyncio.to_thread(house.gate.keeper.close)
        fires, over = hook.documents()
    assert (fires["status"], over["status"]) == ("firing", "resolved")
    (alert,) = fires["firing"]
    assert (alert["name"], alert["severity"], alert["until"]) == ("HighErrorRate", "critical", None)
    assert alert["message"] == "100 % of the requests fail; the threshold is 5."
    assert over["resolved"][0]["until"] > alert["since"]
    assert house.metric('trimtab_engine_alert_messages_total{outcome="sent",receiver="webhook"}') == 2


async def test_a_real_alertmanager_takes_them_and_resolves_them(tmp_path: Path) -> None:
    with sink() as hook, alertmanager(tmp_path, webhook=hook.url) as manager:
        (tmp_path / "run").mkdir()
        house = alerting_house(tmp_path / "run", alertmanager=manager.url)
        look(house, time.monotonic() - 1, failing=True)
        look(house, time.monotonic(), failing=True)
        await wait_for(manager.alerts)
        (alert,) = manager.alerts()
        assert alert["labels"]["alertname"] == "HighErrorRate"
        assert alert["labels"]["service"] == "trimtab-engine"
        assert alert["annotations"]["summary"] == "100 % of the requests fail; the threshold is 5."
        await wait_for(lambda: any(body["status"] == "firing" for body in hook.documents()))
        await asyncio.sleep(0.5)  # the time between two looks
        look(house, time.monotonic(), failing=False)
        await wait_for(lambda: manager.alerts() == [])
        await wait_for(lambda: any(body["status"] == "resolved" for body in hook.documents()))
        await asyncio.to_thread(house.gate.keeper.close)


async def test_a_receiver_that_hangs_keeps_the_others_from_nothing(tmp_path: Path) -> None:
    with sink() as hook, hanging() as url:
        house = alerting_house(tmp_path, webhook=hook.url, alertmanager=url, messages_per_minute=600, timeout_seconds=1)
        for at in range(100):
            look(house, float(at), failing=at % 2 == 1)
        await wait_for(lambda: hook.bodies and hook.documents()[-1]["status"] == "firing")
        dropped = 'trimtab_engine_alert_messages_total{outcome="dropped",receiver="alertmanager"}'
        assert house.metric(dropped) >= 50
        await asyncio.to_thread(house.gate.keeper.close)


async def test_a_receiver_that_refuses_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    with sink() as hook:
        hook.status = 500
        house = alerting_house(tmp_path, webhook=hook.url)
        look(house, 0.0, failing=True)
        look(house, 1.0, failing=True)
        await wait_for(lambda: len(hook.bodies) == 3)
        await asyncio.to_thread(house.gate.keeper.close)
        assert house.metric('trimtab_engine_alert_messages_total{outcome="failed",receiver="webhook"}') == 1

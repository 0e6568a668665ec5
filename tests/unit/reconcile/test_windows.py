"""Maintenance windows by the clock of their time zone, and what they hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.unit.reconcile.resources import owned
from tests.unit.rollout.worlds import stable_driver, wish
from trimtab.api.v1alpha1 import Window
from trimtab.catalogue import ENGINES, find_engine
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, Source, WindowFacts
from trimtab.reconcile.spec_checks import Subject, problem_of
from trimtab.reconcile.windows import window_facts

NIGHT = Window.model_validate(
    {"days": ["Monday", "Friday"], "start": "22:30", "durationMinutes": 300, "timeZone": "Europe/Berlin"}
)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "is_open", "opens"),
    [
        ("2026-01-05T21:29", False, "2026-01-05T21:30"),  # a Monday in winter: 22:29 in Berlin
        ("2026-01-05T21:30", True, "2026-01-09T21:30"),
        ("2026-01-06T02:29", True, "2026-01-09T21:30"),  # past midnight
        ("2026-01-06T02:30", False, "2026-01-09T21:30"),
        ("2026-07-06T20:30", True, "2026-07-10T20:30"),  # in summer an hour earlier by UTC
    ],
)
def test_a_window_opens_and_closes_by_its_own_clock(now: str, is_open: bool, opens: str) -> None:
    assert window_facts((NIGHT,), at(now)) == WindowFacts(is_open=is_open, opens_at=at(opens))


def test_a_window_of_a_week_is_open_on_the_seventh_day() -> None:
    week = Window.model_validate({"days": ["Monday"], "start": "00:00", "durationMinutes": 10_080})
    found = window_facts((week,), at("2026-01-11T23:59"))
    assert found is not None and found.is_open


def test_without_windows_any_time_will_do() -> None:
    assert window_facts(None, 0.0) is None and window_facts((), 0.0) is None


def test_a_time_zone_that_does_not_exist_is_said_with_the_way_out() -> None:
    window = {"days": ["Monday"], "start": "22:00", "durationMinutes": 60, "timeZone": "Europe/Berlon"}
    engine = find_engine("vllm")
    subject = Subject(owned(tuning={"windows": [window]}), engine, tuple(ENGINES), None, ())
    problem = problem_of(subject)
    assert problem is not None and problem.reason is Reason.INVALID_SPEC
    assert "no time zone 'Europe/Berlon'" in problem.message and "never opens" in problem.message


@pytest.mark.parametrize("source", list(Source))
def test_a_window_holds_plans_and_not_the_users_edits(source: Source) -> None:
    driver = stable_driver()
    if source is Source.USER:
        driver.world.user = wish(2)
    else:
        driver.world.planned = wish(2, Source.PLAN)
    driver.world.window = WindowFacts(is_open=False, opens_at=at("2026-01-09T21:30"))
    driver.once()
    if source is Source.USER:
        assert driver.world.state.phase is Phase.CANARY_STARTING
        return
    assert driver.world.state.held_by is Reason.OUTSIDE_WINDOW
    assert "opens at 2026-01-09 21:30 UTC" in driver.world.state.holding
    driver.world.window = replace(driver.world.window, is_open=True)
    driver.until_phase(Phase.CANARY_STARTING)

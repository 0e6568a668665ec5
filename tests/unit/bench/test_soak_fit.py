"""What a soak says of its recording: slopes that a few wild points do not move, and the bars."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench.soak.fit import Look, Recording, rows, slope
from tests.bench.soak.picture import draw

MEGABYTE = 1_000_000


def recording(*, seconds: float, grows: float, lost: int = 0, files: int = 0) -> Recording:
    """Ten answers a second, 100 MB and `grows` bytes with each answer; the warm-up is steeper."""
    every = seconds / 100
    looks = tuple(
        Look(
            at=every * number,
            answered=int(10 * every * number),
            memory=(
                60 * MEGABYTE,
                int(40 * MEGABYTE + grows * 10 * every * number) - (5 * MEGABYTE if number < 15 else 0),
            ),
            files=20 + (files if number > 50 else 0),
            threads=8,
        )
        for number in range(100)
    )
    answered = int(10 * seconds)
    return Recording(
        engine="emulated",
        seconds=seconds,
        warm_up=0.2 * seconds,
        capacity=12.5,
        rate=10.0,
        sent=answered + lost,
        answered=answered,
        failures={"timeout": lost} if lost else {},
        skipped=0,
        vanished=3,
        spans=4,
        looks=looks,
        minutes=({"minute": 0, "succeeded": 600, "failed": 0, "ttft_ms": {"p95": 80.0}},),
    )


@settings(max_examples=100)
@given(
    rise=st.floats(-5, 5),
    start=st.floats(-100, 100),
    count=st.integers(10, 60),
    wild=st.lists(st.floats(-1e6, 1e6), max_size=12),
)
def test_a_quarter_of_the_points_may_be_anything(rise: float, start: float, count: int, wild: list[float]) -> None:
    x = [float(number) for number in range(count)]
    y = [start + rise * at for at in x]
    for place, value in enumerate(wild[: count // 5]):
        y[4 * place] = value
    found = slope(x, y)
    # All pairs of two good points have the right slope, and they are more than half of all pairs.
    assert found == pytest.approx(rise, abs=1e-6)


def test_points_at_one_time_have_no_slope() -> None:
    assert slope([1.0, 1.0], [2.0, 5.0]) == 0.0


@pytest.mark.parametrize(
    ("seconds", "grows", "ok"), [(3600, 10, True), (3600, 100, False), (180, 500, True), (180, 2000, False)]
)
def test_an_hour_is_judged_by_its_slope_and_minutes_by_what_stays_of_a_request(
    seconds: float, grows: float, ok: bool
) -> None:
    found = {row.name: row for row in rows(recording(seconds=seconds, grows=grows))}
    slope_row = found["soak: memory slope, per cent in an hour"]
    each = found["soak: memory kept of each request"]
    judged, other = (slope_row, each) if seconds == 3600 else (each, slope_row)
    assert (judged.ok, other.ok) == (ok, None)
    assert each.value == pytest.approx(grows, rel=0.02)
    assert slope_row.value == pytest.approx(100 * grows * 36_000 / (100 * MEGABYTE), rel=0.05)


def test_a_lost_request_and_files_that_stay_open_are_seen() -> None:
    found = {row.name: row.ok for row in rows(recording(seconds=180, grows=0, lost=1, files=30))}
    assert found["soak: lost requests"] is False
    assert found["soak: more open files and threads at the end"] is False
    clean = [row.ok for row in rows(recording(seconds=180, grows=0))]
    assert clean == [None, True, True, True]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    draw(recording(seconds=60, grows=10), tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")

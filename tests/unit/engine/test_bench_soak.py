"""What a soak makes of its recording: the slope, the verdict on it, and the minutes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.bench.soak.fit import Look, Recording, rows, slope
from tests.bench.soak.run import by_minute
from trimtab_engine.load.ledger import Ledger


def recording(seconds: float, memory: Callable[[float], float], *, answered: int = 1000, skipped: int = 0) -> Recording:
    """Five requests a second; a look every five seconds, the first tenth of them before the memory settles."""
    times = [5.0 * number for number in range(int(seconds // 5) + 1)]
    looks = tuple(
        Look(at=at, answered=int(5 * at), memory=(int(memory(at)), 1000), files=100, threads=60) for at in times
    )
    return Recording(
        engine="vllm", seconds=seconds, warm_up=seconds / 10, capacity=6.0, rate=5.0, sent=1000, answered=answered,
        failures={}, skipped=skipped, vanished=0, spans=0, looks=looks,
    )  # fmt: skip


def verdicts(run: Recording) -> dict[str, bool | None]:
    return {row.name.removeprefix("soak: "): row.ok for row in rows(run)}


def test_a_quarter_of_the_looks_may_be_anything() -> None:
    x = [float(number) for number in range(100)]
    y = [3 * value + (1e6 if number % 4 == 0 else 0) for number, value in enumerate(x)]
    assert slope(x, y) == pytest.approx(3.0)
    assert slope([1.0, 1.0], [2.0, 5.0]) == 0.0


@pytest.mark.parametrize(("percent", "held"), [(0.9, True), (1.1, False)])
def test_an_hour_is_judged_by_its_slope(percent: float, held: bool) -> None:
    found = verdicts(recording(3600, lambda at: 1e9 * (1 + percent / 100 * (at - 1980) / 3600)))
    assert found["memory slope, per cent in an hour"] is held
    assert found["memory kept of each request"] is None


@pytest.mark.parametrize(("kept", "held"), [(900, True), (1100, False)])
def test_three_minutes_are_judged_by_what_is_kept_of_each_request(kept: int, held: bool) -> None:
    found = verdicts(recording(180, lambda at: 1e9 + kept * 5 * at))
    assert found["memory slope, per cent in an hour"] is None
    assert found["memory kept of each request"] is held


@pytest.mark.parametrize(("answered", "skipped"), [(999, 0), (1000, 1)])
def test_a_request_that_was_not_answered_or_not_sent_is_lost(answered: int, skipped: int) -> None:
    flat = recording(3600, lambda _: 1e9, answered=answered, skipped=skipped)
    assert verdicts(flat)["lost requests"] is False
    assert verdicts(recording(3600, lambda _: 1e9))["lost requests"] is True


def test_each_request_counts_in_one_minute() -> None:
    ledger, began = Ledger(bucket_seconds=10.0), 1003.7
    for number in range(300):
        ledger.sent(began + number)
    minutes = by_minute(ledger, began, 240.0)
    # The first minute begins with its bucket, 3.7 seconds before the load.
    assert [one["sent"] for one in minutes] == [57, 60, 60, 60]

"""How numbers read in sentences."""

from __future__ import annotations

import pytest

from trimtab.model import wording


@pytest.mark.parametrize(
    ("count", "said"),
    [(1.0, "1 request waits"), (1.02, "1 request waits"), (1.4, "1.4 requests wait"), (14.0, "14 requests wait")],
)
def test_one_request_waits_and_several_wait(count: float, said: str) -> None:
    assert wording.requests_wait(count) == said


def test_numbers_are_as_short_as_they_may_be() -> None:
    assert [wording.seconds(value) for value in (0.0454, 2.72)] == ["45 ms", "2.7 s"]
    assert [wording.number(value) for value in (3.01, 3.4, 123.4)] == ["3", "3.4", "123"]
    assert [wording.better(gain) for gain in (0.12, 2.1)] == ["12 % better", "3.1 times as good"]
    assert wording.percent(0.45) == "45 %"

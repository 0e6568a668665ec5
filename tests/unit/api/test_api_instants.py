import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.builders import instants
from trimtab.api.instants import from_rfc3339, to_rfc3339


@given(instants)
def test_an_instant_survives_the_way_into_a_resource_and_back_to_the_last_bit(seconds: float) -> None:
    assert from_rfc3339(to_rfc3339(seconds)) == seconds


@given(st.integers(0, 253_402_300_799))
def test_whole_seconds_are_written_without_decimals(seconds: int) -> None:
    text = to_rfc3339(float(seconds))
    assert "." not in text
    assert text.endswith("Z")


def test_an_instant_reads_as_people_write_it() -> None:
    assert to_rfc3339(1_700_000_000.25) == "2023-11-14T22:13:20.25Z"
    assert from_rfc3339("2023-11-15T00:13:20+02:00") == 1_700_000_000


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e12])
def test_what_is_no_instant_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="not an instant"):
        to_rfc3339(seconds)


@pytest.mark.parametrize("text", ["", "yesterday", "2023-11-14T22:13:20", "2023-13-14T22:13:20Z"])
def test_a_text_that_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - several functions of the standard library refuse it
        from_rfc3339(text)

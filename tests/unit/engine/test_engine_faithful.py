"""The comparison of a converted model with its original."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_engine.engines.common.faithful import Comparison, Tolerance, compare

STRICT = Tolerance(difference=0.1, perplexity=0.02)
LIKELY = st.lists(st.floats(-20, 0), min_size=1, max_size=50)


@given(LIKELY)
def test_a_model_agrees_with_itself(original: list[float]) -> None:
    same = compare(original, original)
    assert (same.mean_difference, same.perplexity_ratio) == (0, 1)
    assert same.objection(STRICT) == ""


@given(LIKELY, st.floats(0, 1))
def test_a_model_that_is_less_sure_has_a_larger_perplexity(original: list[float], loss: float) -> None:
    found = compare(original, [value - loss for value in original])
    assert found.mean_difference == pytest.approx(loss, abs=1e-9)
    assert found.perplexity_ratio == pytest.approx(math.exp(loss))


def test_what_is_beyond_a_tolerance_is_named() -> None:
    assert "differ by 0.5000 nats" in compare([-1.0, -2.0], [-1.5, -1.5]).objection(STRICT)
    assert "perplexity rises by 5.13 %" in compare([-1.0, -2.0], [-1.05, -2.05]).objection(STRICT)


@pytest.mark.parametrize("broken", [math.nan, -math.inf])
def test_what_is_no_number_is_never_within_a_tolerance(broken: float) -> None:
    found: Comparison = compare([-1.0, -1.0], [-1.0, broken])
    assert found.objection(Tolerance(difference=1e9, perplexity=1e9))


def test_models_are_compared_over_the_same_tokens() -> None:
    for original, candidate in (([], []), ([-1.0], [-1.0, -2.0])):
        with pytest.raises(ValueError, match="the same tokens"):
            compare(original, candidate)

"""The front holds exactly the rows that no other row beats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trimtab.plan.search import pareto_front

COSTS = arrays.arrays(
    float,
    st.tuples(st.integers(0, 12), st.integers(2, 4)),
    elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, np.inf, np.nan]),
)


@given(COSTS)
def test_every_row_is_on_the_front_or_beaten_by_one_that_is(costs: np.ndarray) -> None:
    front = pareto_front(costs)
    for row, mine in enumerate(costs):
        beaten = any((costs[other] <= mine).all() for other in front if other != row)
        assert (row in front) == (np.isfinite(mine).all() and not beaten)
    assert list(costs[front, 0]) == sorted(costs[front, 0])


@pytest.mark.parametrize("columns", [2, 3])
def test_of_equal_rows_the_first_is_kept(columns: int) -> None:
    assert pareto_front(np.ones((3, columns))) == [0]

"""Single steps to the best configuration: the order, what is passed over, and what each is worth after the others."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.plan.search import Candidates, Estimate, Goal, Limit, path, ratio

# Three groups: the first gives 10 %, the second 50 %, the third 20 % more throughput; the second costs latency unless
# the third was changed as well.
THROUGHPUT = np.array([100.0, 110.0, 150.0, 165.0, 120.0, 132.0, 180.0, 198.0])
LATENCY = np.array([0.04, 0.04, 0.06, 0.06, 0.03, 0.03, 0.045, 0.045])
BITS = np.array([[row >> bit & 1 for bit in range(3)] for row in range(8)], dtype=float)


def rows(sd: float = 0.05) -> Candidates:
    spread = np.full(8, sd)
    metrics = {"throughput": Estimate(np.log(THROUGHPUT), spread), "itl": Estimate(np.log(LATENCY), spread)}
    return Candidates(BITS, metrics)


def test_the_biggest_gain_comes_first() -> None:
    assert path(rows(), Goal(objective="throughput")) == (0, 2, 6, 7)


def test_a_step_that_would_break_a_limit_waits_for_the_one_that_makes_room() -> None:
    goal = Goal(objective="throughput", limits=(Limit("itl", 0.05),))
    assert path(rows(0.01), goal) == (0, 4, 6, 7)


def test_groups_that_are_safe_only_together_are_one_step() -> None:
    goal = Goal(objective="throughput", limits=(Limit("itl", 0.046),))
    found = rows(0.001)
    found.metrics["itl"].mean[[1, 4, 5]] = np.log(0.06)
    assert path(found, goal) == (0, 6, 7)


def test_nothing_to_change_is_no_step_and_three_rows_are_refused() -> None:
    one = Candidates(BITS[:1], {"throughput": Estimate(np.zeros(1), np.zeros(1))})
    assert path(one, Goal(objective="throughput")) == (0,)
    three = Candidates(BITS[:3], {"throughput": Estimate(np.zeros(3), np.zeros(3))})
    with pytest.raises(ValueError, match="3 rows"):
        path(three, Goal(objective="throughput"))


def test_a_ratio_is_surer_than_the_values_that_it_is_of() -> None:
    found = ratio(rows(0.2), "throughput", 0, 2)
    assert found.value == pytest.approx(1.5)
    assert found.low < 1.5 < found.high
    alone = np.exp(1.645 * 0.2)
    assert found.high / found.value < alone**0.5
    same = ratio(rows(0.2), "throughput", 3, 3)
    assert (same.low, same.value, same.high) == (1.0, 1.0, 1.0)

"""The bounds, the bets and the model of pods, against what is known of them."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from trimtab.judge.sequential.betting import best_run, capital
from trimtab.judge.sequential.bounds import half_width, normal_tail
from trimtab.judge.sequential.pods import Other, PodEffects, spread_of
from trimtab.judge.statistics import wilson


def effects(first: list[float], second: list[float] | None = None) -> PodEffects:
    other = [math.nan] * len(first) if second is None else second
    return PodEffects(np.column_stack((first, other)), np.array([1e-5, 1e-5]))


def test_the_tail_of_the_normal_distribution_is_right_to_a_thousandth() -> None:
    for x in (-3.0, -0.5, 0.0, 1.0, 2.576, 4.0):
        assert float(normal_tail(np.array([x]))[0]) == pytest.approx(1 - NormalDist().cdf(x), rel=1e-3)


def test_a_confidence_sequence_narrows_and_is_wider_than_a_single_look() -> None:
    widths = [half_width(information, 0.01) for information in (10.0, 100.0, 1e3, 1e4, 1e5, 1e6)]
    assert widths == sorted(widths, reverse=True)
    assert all(width > 2.33 / math.sqrt(n) for width, n in zip(widths, (10, 100, 1e3, 1e4, 1e5, 1e6), strict=True))
    assert half_width(0.0, 0.01) == math.inf
    assert half_width(1e4, 0.001) > half_width(1e4, 0.01)


def test_a_confidence_sequence_is_left_as_seldom_as_it_says() -> None:
    """300 looks at 2,000 means that are zero: at a nominal 5 % no more than that may ever leave."""
    random = np.random.default_rng(3)
    steps = random.standard_normal((2000, 300)) / math.sqrt(100.0)  # each of information 100
    information = 100.0 * np.arange(1, 301)
    means = np.cumsum(steps * 100.0, axis=1) / information
    bounds = np.array([half_width(float(one), 0.05) for one in information])
    assert (means > bounds).any(axis=1).mean() <= 0.055


@pytest.mark.parametrize("allowed", [0.01, 0.05, 0.3])
def test_capital_does_not_grow_on_average_when_nothing_is_wrong(allowed: float) -> None:
    """The exact mean over all outcomes of six intervals, each a success with the allowed probability."""
    mean = 0.0
    for outcome in itertools.product((0.0, 1.0), repeat=6):
        chance = math.prod(allowed if one else 1 - allowed for one in outcome)
        mean += chance * math.exp(capital(np.array(outcome), np.full(6, allowed)))
    assert mean == pytest.approx(1.0, abs=1e-9)


def test_capital_grows_with_an_excess_that_lasts_but_not_with_one_run() -> None:
    allowed = np.full(30, 0.005)
    lasting, run = np.full(30, 0.03), np.zeros(30)
    run[10:15] = 0.5
    assert capital(lasting, allowed, spared=5) > math.log(1000)
    assert capital(run, allowed) > math.log(1000)
    assert capital(run, allowed, spared=5) < 0
    assert capital(np.empty(0), np.empty(0)) == 0


def test_the_best_run_is_the_best_of_all_runs() -> None:
    gains = np.random.default_rng(1).standard_normal((3, 20))
    expected = [max(0.0, *(row[begin : begin + 5].sum() for begin in range(16))) for row in gains]
    assert best_run(gains, 5) == pytest.approx(expected)
    assert best_run(gains[:, :3], 5) == pytest.approx(np.maximum(gains[:, :3].sum(axis=1), 0.0))


def test_stable_pods_that_differ_more_grant_more() -> None:
    floors = [spread_of(effects([-s, -s / 2, s / 2, s]), 1).floors(0.01)[0] for s in (0.01, 0.05, 0.1, 0.3)]
    assert floors == sorted(floors)
    assert floors[0] < 0.1 < floors[2]


def test_more_canary_pods_are_granted_less() -> None:
    one, four = (spread_of(effects([-0.05, -0.02, 0.02, 0.05]), pods).floors(0.01)[0] for pods in (1, 4))
    assert four < 0.8 * one


def test_a_single_stable_pod_leaves_the_prior_which_grants_tens_of_per_cent() -> None:
    assert spread_of(effects([0.0]), 1).floors(0.002)[0] > 0.3


def test_what_a_slow_pod_shows_in_one_latency_explains_as_much_of_the_other() -> None:
    alike = spread_of(effects([-0.1, -0.03, 0.04, 0.1], [-0.1, -0.03, 0.04, 0.1]), 1)
    slow_in_both, slow_in_one = Other(0.2, 1e-5), Other(0.0, 1e-5)
    assert alike.explained(slow_in_both) == pytest.approx(0.2, rel=0.1)
    assert alike.tail(0.2, 0.004, 0.01, slow_in_both) > 0.2
    assert alike.tail(0.2, 0.004, 0.01, slow_in_one) < 1e-3
    assert alike.tail(0.2, 0.004, 0.01) > 0.01


def test_a_pod_that_is_fast_in_the_other_latency_explains_nothing() -> None:
    alike = spread_of(effects([-0.1, -0.03, 0.04, 0.1], [-0.1, -0.03, 0.04, 0.1]), 1)
    assert alike.explained(Other(-0.2, 1e-5)) == 0


def test_wilsons_interval_holds_the_share_and_is_all_without_requests() -> None:
    lower, upper = wilson(0.1, 100, 1.0, 2.0)
    assert lower < 0.1 < upper
    assert wilson(0.5, 0, 1.0, 2.0) == (0.0, 1.0)

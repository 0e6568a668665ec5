"""The next canary: never one that may break a limit, towards the best, and no more than are worth it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trimtab.plan.search import Advice, Candidates, Estimate, Goal, Limit, Observation, Stop, next_canary
from trimtab.plan.search.acquire import expected_improvement, normal_cdf, probability_kept
from trimtab.plan.search.residuals import informed

SIZES = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
LATENCY = Limit("itl", 0.05)


def candidates(sd: float = 0.15, *, bias: float = 1.0) -> Candidates:
    """Batch sizes: throughput grows ever slower, latency ever faster; `bias` is how far off the model's latency is."""
    throughput, latency = 100 * SIZES / (1 + SIZES / 32), 0.01 * (1 + SIZES / 20) * bias
    spread = np.full(len(SIZES), sd)
    metrics = {"throughput": Estimate(np.log(throughput), spread), "itl": Estimate(np.log(latency), spread)}
    return Candidates(np.log2(SIZES)[:, None], metrics)


def truth(row: int) -> Observation:
    exact = candidates()
    return Observation(row, {name: float(estimate.median[row]) for name, estimate in exact.metrics.items()})


def goal(**others: object) -> Goal:
    return Goal(objective="throughput", limits=(LATENCY,), **others)  # type: ignore[arg-type]


def canaries(found: Candidates, first: int = 0) -> tuple[list[int], Stop]:
    seen = [truth(first)]
    while True:
        answer = next_canary(found, goal(), seen)
        if isinstance(answer, Stop):
            return [o.row for o in seen[1:]], answer
        assert answer.gain > 0
        seen.append(truth(answer.row))


def test_a_model_that_is_right_leads_to_the_best_safe_candidate_in_one_canary() -> None:
    tried, stopped = canaries(candidates(sd=0.02))
    assert tried == [6]
    assert stopped.best == 6
    assert "promises" in stopped.message


@pytest.mark.parametrize("bias", [0.8, 1.25])
def test_a_biased_model_learns_its_bias_from_what_runs_and_breaks_no_limit(bias: float) -> None:
    tried, stopped = canaries(candidates(bias=bias))
    assert stopped.best == 6
    assert len(tried) <= 3
    assert all(truth(row).measured["itl"] <= LATENCY.value for row in tried)


def test_where_nothing_is_surely_safe_nothing_is_tried() -> None:
    strict = Goal(objective="throughput", limits=(Limit("itl", 0.001),))
    assert next_canary(candidates(), strict, [truth(0)]) == Stop(
        None, "No other configuration is known to keep the limits."
    )


def test_a_latency_can_be_what_is_made_small() -> None:
    answer = next_canary(candidates(sd=0.01), Goal(objective="itl", maximise=False), [truth(7)])
    assert isinstance(answer, Advice)
    assert answer.row == 0


def test_what_runs_breaks_the_limit_and_the_best_safe_one_is_tried() -> None:
    answer = next_canary(candidates(sd=0.02), goal(), [truth(7)])
    assert isinstance(answer, Advice)
    assert (answer.row, answer.safe > 0.98) == (6, True)


def test_a_measurement_moves_its_neighbours_more_than_what_is_far_away_and_narrows_them() -> None:
    prior = candidates()
    shifted = Observation(7, {"itl": prior.metrics["itl"].median[7] * math.exp(0.2)})
    after = informed(prior, [shifted]).metrics["itl"]
    moved = after.mean - prior.metrics["itl"].mean
    assert moved[7] == pytest.approx(0.2, rel=0.1)
    assert moved[7] > moved[6] > moved[0] > 0.1
    assert (after.sd < prior.metrics["itl"].sd).all()
    assert informed(prior, [shifted]).metrics["throughput"] is prior.metrics["throughput"]


def test_an_outlier_counts_as_three_deviations_at_most() -> None:
    prior = candidates(sd=0.1)
    wild = Observation(3, {"itl": prior.metrics["itl"].median[3] * 1000})
    moved = informed(prior, [wild]).metrics["itl"].mean - prior.metrics["itl"].mean
    assert moved.max() < 0.32


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_a_measurement_that_is_no_positive_number_teaches_nothing(value: float) -> None:
    prior = candidates()
    assert informed(prior, [Observation(3, {"itl": value})]).metrics["itl"] is prior.metrics["itl"]


def test_probabilities_and_expected_improvement_against_exact_figures() -> None:
    z = np.linspace(-6, 6, 241)
    exact = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    assert np.abs(normal_cdf(z) - exact).max() < 2e-7
    sure = Candidates(np.zeros((2, 1)), {"itl": Estimate(np.log([0.04, 0.06]), np.zeros(2))})
    assert list(probability_kept(sure, [LATENCY])) == [1.0, 0.0]
    gains = expected_improvement(Estimate(np.array([0.0, 0.3, -0.3]), np.array([1.0, 0.0, 0.0])), 0.0)
    assert gains == pytest.approx([1 / math.sqrt(2 * math.pi), 0.3, 0.0])

"""The next canary: never one that may break a limit, towards the best, and no more than are worth it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trimtab.plan.search import Advice, Candidates, Estimate, Goal, Limit, Observation, Stop, next_canary
from trimtab.plan.search.acquire import expected_improvement, normal_cdf, probability_kept, student_cdf
from trimtab.plan.search.explore import RISK, SHARE, spent
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
    assert moved[7] > moved[6] > moved[4] > 0.1
    assert (np.diff(after.sd) < 0).all()
    assert after.sd[7] < 0.25 * prior.metrics["itl"].sd[7]
    assert informed(prior, [shifted]).metrics["throughput"] is prior.metrics["throughput"]


def test_an_outlier_counts_as_three_deviations_at_most() -> None:
    prior = candidates(sd=0.1)
    wild = Observation(3, {"itl": prior.metrics["itl"].median[3] * 1000})
    after = informed(prior, [wild]).metrics["itl"]
    assert (after.mean - prior.metrics["itl"].mean).max() < 0.4
    assert after.sd.max() < 2 * prior.metrics["itl"].sd.max()


def test_an_overhead_of_the_same_milliseconds_weighs_less_where_latencies_are_long() -> None:
    prior = candidates()
    slow = Observation(0, {"itl": prior.metrics["itl"].median[0] + 0.005})
    moved = informed(prior, [slow]).metrics["itl"].mean - prior.metrics["itl"].mean
    assert moved[0] > moved[4] > moved[7] > 0
    assert moved[7] < 0.6 * moved[0]


def test_errors_larger_than_expected_widen_what_is_not_known_yet() -> None:
    prior = candidates(sd=0.1)
    usual, strange = (
        informed(prior, [Observation(3, {"itl": prior.metrics["itl"].median[3] * math.exp(error)})]).metrics["itl"]
        for error in (0.01, 0.35)
    )
    assert (strange.sd > usual.sd).all()
    assert strange.freedom == usual.freedom < math.inf


def test_a_run_spends_its_risk_and_then_tries_surer_canaries_only() -> None:
    found, aim = candidates(sd=0.1), goal()
    seen = [truth(0)]
    assert spent(found, aim, seen) == 0.0
    risky = int(np.argmin(np.abs(probability_kept(informed(found, seen), aim.limits) - 0.97)))
    seen.append(truth(risky))
    assert 0.0 < spent(found, aim, seen) <= RISK
    answer = next_canary(found, aim, seen)
    assert isinstance(answer, Stop) or answer.safe >= 1.0 - SHARE * (RISK - spent(found, aim, seen))


def test_limits_are_kept_together_however_their_errors_hang_together() -> None:
    both = Candidates(np.zeros((1, 1)), {name: Estimate(np.zeros(1), np.full(1, 0.1)) for name in ("itl", "ttft")})
    limits = [Limit("itl", math.exp(0.1)), Limit("ttft", math.exp(0.1))]
    each = float(probability_kept(both, limits[:1])[0])
    assert float(probability_kept(both, limits)[0]) == pytest.approx(2 * each - 1)


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


def test_student_s_distribution_against_its_closed_form_of_four_degrees() -> None:
    t = np.linspace(-6, 6, 121)
    wide = 1 + t * t / 4
    exact = 0.5 + 0.375 * t / np.sqrt(wide) * (1 - t * t / 12 / wide)
    assert np.abs(student_cdf(t, 4.0) - exact).max() < 0.003
    assert np.array_equal(student_cdf(t, math.inf), normal_cdf(t))

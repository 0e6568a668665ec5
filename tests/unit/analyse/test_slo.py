"""Targets by the share of requests above the threshold; too few samples are Unknown, unless they are damning."""

from __future__ import annotations

import pytest

from tests.unit.plan.scenarios import Pod, histogram, known, one_slot, snapshot, well_batched
from trimtab.analyse import Limits, diagnose
from trimtab.model.bottleneck import Health
from trimtab.model.reading import Known, Unknown, Why
from trimtab.model.slo import Latency, LatencyTarget, Slo

P95 = Slo(latencies=(LatencyTarget(Latency.TTFT, 95, 1.0),))


def run(pod: Pod, slo: Slo) -> Health:
    return diagnose(snapshot(pod), slo, "stable", Limits())


def ttft(values: list[float]) -> Pod:
    return Pod(changes={"ttft": known(histogram(values), len(values))})


def test_a_target_is_met_up_to_its_allowed_share_and_violated_above() -> None:
    assert run(ttft([0.5] * 95 + [3.0] * 5), P95).slo_met is True
    assert run(ttft([0.5] * 93 + [3.0] * 7), P95).slo_met is False


def test_few_good_samples_do_not_meet_a_tail_target() -> None:
    [state] = run(ttft([0.5] * 12), P95).targets
    assert state.met is None
    assert isinstance(state.share_above, Known) and state.share_above.value == pytest.approx(0.0)


def test_few_samples_violate_a_tail_target_when_chance_cannot_explain_them() -> None:
    assert run(ttft([3.0] * 9 + [0.5] * 3), P95).slo_met is False


def test_hardly_any_samples_decide_nothing() -> None:
    [state] = run(ttft([9.0] * 5), P95).targets
    assert state.met is None
    assert isinstance(state.measured, Unknown) and state.measured.why is Why.TOO_FEW_SAMPLES


def test_no_traffic_is_said_as_such() -> None:
    [state] = run(ttft([]), P95).targets
    assert state.met is None and isinstance(state.measured, Unknown) and state.measured.why is Why.NO_TRAFFIC


def test_without_a_target_the_slo_is_neither_met_nor_violated() -> None:
    assert run(well_batched(), Slo()).slo_met is None


def test_errors_have_a_budget() -> None:
    budget = Slo(max_error_share=0.01)
    assert run(Pod(errors_per_second=0.0), budget).slo_met is True
    health = run(Pod(errors_per_second=0.1), budget)
    assert health.slo_met is False
    assert isinstance(health.error_share, Known) and health.error_share.value == pytest.approx(0.05)
    assert run(Pod(changes={"error_rate": Unknown(Why.STALE)}), budget).slo_met is None


def test_a_throughput_floor_is_violated_only_while_requests_wait() -> None:
    floor = Slo(min_output_tokens_per_second=1000.0)
    assert run(one_slot(), floor).slo_met is False
    assert run(one_slot(waiting=0.0), floor).slo_met is True
    assert run(one_slot(changes={"waiting": Unknown(Why.STALE)}), floor).slo_met is None


def test_one_violation_outweighs_unknowns_and_an_unknown_outweighs_what_is_met() -> None:
    both = Slo(latencies=(*P95.latencies, LatencyTarget(Latency.ITL, 95, 0.2)))
    hidden = {"ttft": Unknown(Why.STALE)}
    assert run(Pod(changes=hidden, itl=(0.5, 0.9)), both).slo_met is False
    assert run(Pod(changes=hidden), both).slo_met is None

"""A plan on paper: it keeps what was asked for, says how it got there, and why there is none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from trimtab.catalogue.gpus import find_device
from trimtab.catalogue.models import find_model
from trimtab.catalogue.models.shape import ModelShape
from trimtab.model.slo import LatencyTarget
from trimtab.plan.paper import Infeasible, NothingFits, PaperError, PaperPlan, PaperRequest, plan_on_paper
from trimtab.plan.paper.sweep import CLIENTS, sweep
from trimtab.plan.point import Traffic
from trimtab.plan.request import Bounds, Objective

CHAT = Traffic(prompt=1024, output=256, rate=4.0)
TARGETS = (LatencyTarget.parse("ttft.p95=500ms"), LatencyTarget.parse("itl.p95=40ms"))


def shape(name: str) -> ModelShape:
    found = find_model(name)
    assert found is not None
    return found


def request(model: str = "meta-llama/Llama-3.1-70B", gpu: str = "H100", **others: object) -> PaperRequest:
    values: dict[str, object] = {"gpus": 8, "traffic": CHAT, "targets": TARGETS, **others}
    return PaperRequest(model=shape(model), device=find_device(gpu), **values)  # type: ignore[arg-type]


def planned(**others: object) -> PaperPlan:
    answer = plan_on_paper(request(**others))  # type: ignore[arg-type]
    assert isinstance(answer, PaperPlan)
    return answer


@pytest.mark.parametrize("objective", list(Objective))
def test_what_is_chosen_keeps_every_target_by_its_bound_and_the_gpus(objective: Objective) -> None:
    chosen = planned(objective=objective).chosen
    assert chosen.meets
    assert chosen.gpus <= 8
    for target in TARGETS:
        assert chosen.figures.latencies[target.name] <= chosen.figures.bounds[target.name] <= target.seconds


def test_each_objective_is_best_at_its_own() -> None:
    found = {objective: planned(objective=objective, weights=("native", "fp8")).chosen for objective in Objective}
    times = {objective: option.figures.latencies["e2e.mean"] for objective, option in found.items()}
    assert times[Objective.LATENCY] == min(times.values())
    per_gpu = {objective: option.throughput_per_gpu for objective, option in found.items()}
    assert per_gpu[Objective.COST] >= max(per_gpu.values()) * 0.99


def test_the_same_request_gives_the_same_answer() -> None:
    assert plan_on_paper(request()) == plan_on_paper(request())


def test_formats_that_alter_outputs_are_chosen_only_where_they_were_allowed() -> None:
    assert {option.point.weights for option in planned().front} == {"bf16"}
    assert planned(weights=("native", "fp8"), objective=Objective.COST).chosen.point.weights == "fp8"


def test_fixed_and_bounded_knobs_are_kept() -> None:
    answer = planned(
        fixed={"tensorParallelSize": 4, "pipelineParallelSize": 1}, bounds={"maxNumSeqs": Bounds(minimum=5, maximum=48)}
    )
    for option in (answer.chosen, *answer.front):
        assert option.point.layout.tensor == 4
        assert 5 <= (option.point.max_num_seqs or 0) <= 48


def test_no_option_of_the_front_is_beaten_by_another() -> None:
    front = planned(weights=("native", "fp8")).front
    assert len(front) >= 2
    pairs = [(option.figures.latencies["e2e.mean"], -option.throughput_per_gpu) for option in front]
    for one in pairs:
        assert not any(other != one and other[0] <= one[0] and other[1] <= one[1] for other in pairs)


def test_the_steps_lead_from_the_defaults_to_the_choice_and_multiply_to_the_whole() -> None:
    answer = planned(
        traffic=Traffic(prompt=1024, output=256, concurrency=64), targets=(), weights=("native", "fp8"),
        objective=Objective.COST,
    )  # fmt: skip
    assert answer.start is not None
    assert answer.steps
    product = math.prod(
        effect.ratio for step in answer.steps for effect in step.effects if effect.metric.value == "throughput"
    )
    whole = answer.chosen.figures.throughput / answer.start.figures.throughput
    assert product == pytest.approx(whole, rel=0.01)
    for step in answer.steps:
        assert step.changes
        assert all(effect.low <= effect.ratio <= effect.high for effect in step.effects)


def test_what_was_not_chosen_is_named_with_the_number_that_decided() -> None:
    answer = planned(weights=("native", "fp8"))
    assert answer.rejected
    assert all(any(c.isdigit() for c in item.reason) for item in answer.rejected)


def test_a_target_below_what_is_possible_names_the_nearest_that_can_be_reached() -> None:
    answer = plan_on_paper(request(targets=(LatencyTarget.parse("itl.p95=1ms"),)))
    assert isinstance(answer, Infeasible)
    assert answer.reachable["itl.p95"] > 0.001
    assert answer.nearest.figures.bounds["itl.p95"] == pytest.approx(answer.reachable["itl.p95"])
    assert "wanted 1 ms" in answer.message
    assert "Raise the target" in answer.message


def test_more_than_can_be_served_is_called_saturation_with_the_rate_that_can() -> None:
    answer = plan_on_paper(request(traffic=replace(CHAT, rate=5000.0)))
    assert isinstance(answer, Infeasible)
    assert "saturate every option" in answer.message
    assert answer.nearest.figures.most_requests < 5000
    relaxed = plan_on_paper(request(traffic=replace(CHAT, rate=answer.nearest.figures.most_requests * 0.5), targets=()))
    assert isinstance(relaxed, PaperPlan)


def test_a_model_that_no_layout_holds_is_said_with_the_sizes() -> None:
    answer = plan_on_paper(request("deepseek-ai/DeepSeek-V3", "L4", gpus=4))
    assert isinstance(answer, NothingFits)
    assert "GiB" in answer.message


def test_fixed_knobs_that_leave_nothing_are_named() -> None:
    answer = plan_on_paper(request(fixed={"tensorParallelSize": 16}))
    assert isinstance(answer, NothingFits)
    assert "tensorParallelSize" in answer.message


def test_bounds_that_no_step_can_hold_leave_nothing() -> None:
    answer = plan_on_paper(request(bounds={"maxNumSeqs": Bounds(minimum=100_000)}))
    assert isinstance(answer, NothingFits)
    assert "bounds" in answer.message


@pytest.mark.parametrize(
    ("field", "others"),
    [
        ("prompt", {"traffic": replace(CHAT, prompt=0)}),
        ("output", {"traffic": replace(CHAT, output=math.nan)}),
        ("prompt", {"traffic": replace(CHAT, prompt=200_000)}),
        ("rate", {"traffic": replace(CHAT, rate=None)}),
        ("rate", {"traffic": replace(CHAT, rate=-1.0)}),
        ("rate", {"traffic": replace(CHAT, concurrency=4.0)}),
        ("gpus", {"gpus": 0}),
        ("slo", {"targets": (LatencyTarget.parse("ttft.p90=1s"),)}),
        ("maxNumSeqs", {"bounds": {"maxNumSeqs": Bounds(8, 4)}}),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_field(field: str, others: dict[str, object]) -> None:
    with pytest.raises(PaperError) as caught:
        plan_on_paper(request(**others))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert str(caught.value).endswith(".")


def test_the_curves_of_the_plot_trade_speed_for_throughput() -> None:
    curves = sweep(request())
    assert {curve.name for curve in curves} >= {"TP4, bf16, KV bf16", "TP8, bf16, KV bf16"}
    for curve in curves:
        assert len(curve.speeds) == len(curve.throughputs) == len(CLIENTS)
        assert curve.speeds[0] > curve.speeds[-1]
        assert curve.throughputs[0] < curve.throughputs[-1]


@pytest.mark.parametrize(
    ("model", "gpu"),
    [
        ("openai/gpt-oss-120b", "B200"),
        ("Qwen/Qwen3-8B", "L4"),
        ("mistralai/Mixtral-8x7B-v0.1", "MI300X"),
        ("google/gemma-3-27b-it", "A100"),
        ("deepseek-ai/DeepSeek-R1", "GB200"),
        ("moonshotai/Kimi-K2-Instruct", "H200"),
    ],
)
def test_families_and_gpus_of_all_kinds_get_an_answer(model: str, gpu: str) -> None:
    answer = plan_on_paper(request(model, gpu, targets=(), gpus=16))
    assert isinstance(answer, PaperPlan)
    assert answer.chosen.figures.throughput == pytest.approx(CHAT.rate * CHAT.output if CHAT.rate else 0, rel=0.02)

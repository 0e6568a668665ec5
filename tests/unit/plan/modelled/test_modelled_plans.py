"""Plans from the performance model: when it answers, what it goes for, and what it never proposes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.plan.gpu_cases import (
    LLAMA_8B,
    LONG_PROMPTS,
    OVERLOADED,
    full_cache,
    long_prompts,
    one_of_four,
    overloaded,
    target,
)
from tests.unit.plan.scenarios import Pod, health, snapshot
from trimtab.catalogue.models import find_model
from trimtab.model.config import EngineConfig
from trimtab.model.plan import Effect, Effort, Metric, NoPlan, OptimizationType, Plan
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.plan import Bounds, Objective, PlanRequest, propose

ALL = (overloaded, long_prompts, full_cache, one_of_four)


def planned(request: PlanRequest) -> Plan:
    answer = propose(request)
    assert isinstance(answer, Plan), answer
    return answer


def effect(plan: Plan, metric: Metric, step: int = 0) -> Effect:
    return next(e for e in plan.optimizations[step].effects if e.metric is metric)


def seen(pod: Pod, slo: Slo | None = None) -> dict[str, Any]:
    """What a request holds of two such pods."""
    view = snapshot(pod, pod)
    return {"snapshot": view, "health": health(view, EngineConfig(), slo or Slo(), "H100")}


def gpus(plan: Plan) -> int:
    return int(plan.result.get("tensorParallelSize", 1)) * int(plan.result.get("dataParallelSize", 1))


def predicted(request: PlanRequest) -> bool:
    answer = propose(request)
    return isinstance(answer, Plan) and not answer.estimated


@pytest.mark.parametrize("case", ALL)
def test_where_model_gpu_and_engine_are_known_every_effect_is_predicted_with_an_interval(case: Any) -> None:
    plan = planned(case())
    assert not plan.estimated
    for step in plan.optimizations:
        assert step.effects and step.risks
        for found in step.effects:
            assert found.low <= found.ratio <= found.high
            assert "model" in found.basis
    assert plan.improvement.low < plan.improvement.ratio < plan.improvement.high


@pytest.mark.parametrize("case", ALL)
def test_the_same_request_gives_the_same_plan(case: Any) -> None:
    assert repr(propose(case())) == repr(propose(case()))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"device": "cpu"},
        {"device": "a GPU that nobody knows"},
        {"config": {"maxNumSeqs": 8, "cpuOffloadGibibytes": 4}},
        {"config": {"maxNumSeqs": 8, "speculativeMethod": "ngram", "speculativeTokens": 3}},
        {"model": find_model("deepseek-ai/DeepSeek-V3")},  # which cannot be what runs there
        {"arguments": ("--quantization=something-new",)},
    ],
)
def test_where_too_little_is_known_the_rules_answer(changes: dict[str, Any]) -> None:
    answer = propose(overloaded(**changes))
    assert not isinstance(answer, Plan) or answer.estimated


def test_more_sequences_are_worth_what_the_step_does_not_grow_by() -> None:
    plan = planned(overloaded())
    assert [step.type for step in plan.optimizations] == [OptimizationType.BATCHING]
    assert int(plan.result["maxNumSeqs"]) >= 64
    assert effect(plan, Metric.THROUGHPUT).ratio > 2.5
    assert effect(plan, Metric.TTFT).ratio < 0.1
    assert plan.optimizations[0].trades == (Metric.ITL,)


def test_a_target_of_the_gap_between_tokens_bounds_how_many_run() -> None:
    free, bound = planned(overloaded()), planned(overloaded(slo=target(Latency.ITL, 0.05)))
    assert int(bound.result["maxNumSeqs"]) < int(free.result["maxNumSeqs"])
    risky = bound.rejected[0]
    assert "itl.p95 would be about" in risky.reason and "50 ms is wanted" in risky.reason


def test_while_everything_is_served_the_violated_target_is_the_goal() -> None:
    plan = planned(long_prompts())
    assert plan.improvement.metric is Metric.TTFT
    assert plan.improvement.ratio < 1.0
    assert all(e.metric is not Metric.THROUGHPUT for step in plan.optimizations for e in step.effects)


def test_what_no_configuration_reaches_is_told_with_the_nearest_value() -> None:
    plan = planned(long_prompts(slo=target(Latency.TTFT, 0.3)))
    assert "ttft.p95 within 300 ms (the nearest is about" in plan.shortfall
    assert "within 900 ms for certain" in planned(long_prompts()).shortfall
    assert planned(overloaded(slo=target(Latency.ITL, 0.05))).shortfall == ""


def test_idle_gpus_of_the_pod_are_used_and_the_target_decides_how() -> None:
    fast, tight = planned(one_of_four()), planned(one_of_four(slo=target(Latency.ITL, 0.012)))
    assert [gpus(fast), gpus(tight)] == [4, 4]
    # Copies disturb each other less: the tight target is kept by them.
    assert int(tight.result.get("dataParallelSize", 1)) > int(fast.result.get("dataParallelSize", 1))


def test_a_full_cache_gets_room_before_anything_that_alters_outputs() -> None:
    plan = planned(full_cache())
    assert plan.result["tensorParallelSize"] == 4
    assert effect(plan, Metric.KV_CAPACITY).ratio > 4
    assert not plan.alters_outputs


def test_outputs_are_altered_only_where_nothing_else_helps_and_never_by_the_cautious() -> None:
    alone = {"gpus_per_pod": 1, "model": LLAMA_8B, "config": {"maxModelLen": 16384}, "device": "L40S"}
    assert planned(full_cache(**alone)).alters_outputs
    assert planned(one_of_four(profile="Aggressive")).alters_outputs
    cautious = propose(full_cache(**alone, profile="Conservative"))
    assert isinstance(cautious, NoPlan) or not cautious.alters_outputs


def test_locked_forbidden_and_bounded_knobs_are_respected() -> None:
    locked = propose(overloaded(locked=frozenset({"maxNumSeqs"})))
    assert isinstance(locked, NoPlan) or "maxNumSeqs" not in locked.start.changes_to(locked.result)
    bounded = planned(overloaded(bounds={"maxNumSeqs": Bounds(maximum=24)}))
    assert bounded.result["maxNumSeqs"] == 24
    only = planned(one_of_four(allowed=frozenset({"maxNumSeqs"})))
    assert set(only.start.changes_to(only.result)) == {"maxNumSeqs"}
    own = propose(overloaded(arguments=("--max-num-seqs=8",)))
    assert isinstance(own, NoPlan) or "maxNumSeqs" not in own.start.changes_to(own.result)


def test_what_was_bad_is_not_proposed_again_nor_what_goes_further() -> None:
    first = planned(overloaded())
    bad = EngineConfig({"maxNumSeqs": 64})
    again = planned(overloaded(tried=(first.result, bad)))
    assert int(again.result["maxNumSeqs"]) < 64


def test_each_step_alone_is_a_configuration_that_the_engine_takes() -> None:
    from trimtab.catalogue import find_engine

    engine = find_engine("vllm")
    assert engine is not None
    for case in ALL:
        plan = planned(case())
        config = plan.start
        for step in plan.optimizations:
            config = config.with_changes(step.as_changes)
            assert not [p for p in engine.problems("0.32.0", config, device="H100") if p.certain]
            assert engine.flags("0.32.0", config)
        assert config == plan.result


def test_a_plan_is_kept_while_it_is_about_as_good_as_the_best() -> None:
    plan = planned(overloaded())
    drifted = overloaded()
    load = replace(drifted, plan=plan)
    assert propose(load) is plan
    stale = replace(plan, start=EngineConfig({"maxNumSeqs": 4}))
    assert propose(replace(drifted, plan=stale)) is not stale


@pytest.mark.parametrize(("case", "pod"), [(overloaded, OVERLOADED), (long_prompts, LONG_PROMPTS)])
def test_figures_that_move_a_little_make_no_new_plan(case: Any, pod: Pod) -> None:
    request_, plan = case(), planned(case())
    for load, speed in ((0.92, 1.08), (1.08, 0.92), (1.1, 1.1), (0.95, 0.9)):
        moved = replace(
            pod,
            waiting=pod.waiting * load,
            prompt=pod.prompt * load,
            requests_per_second=pod.requests_per_second / speed,
            itl=(pod.itl[0] * speed, pod.itl[1] * speed),
            ttft=(pod.ttft[0] * speed, pod.ttft[1] * load),
        )
        assert propose(replace(request_, plan=plan, **seen(moved, request_.slo))) is plan


def test_a_plan_is_kept_while_half_of_the_gain_that_is_asked_for_is_left() -> None:
    plan = planned(overloaded())
    gain = plan.improvement.ratio - 1.0
    assert propose(overloaded(plan=plan, min_improvement=1.1 * gain)) is plan
    assert isinstance(propose(overloaded(min_improvement=1.1 * gain, allowed=frozenset({"maxNumSeqs"}))), NoPlan)


def test_the_objective_latency_takes_the_fastest_request() -> None:
    plan = planned(one_of_four(objective=Objective.LATENCY))
    assert plan.improvement.metric is Metric.E2E
    assert plan.improvement.ratio < 1.0


def test_a_smaller_gain_than_is_asked_for_is_no_plan_and_the_numbers_are_told() -> None:
    answer = propose(overloaded(min_improvement=9.0, allowed=frozenset({"maxNumSeqs"})))
    assert isinstance(answer, NoPlan)
    assert answer.reason is Reason.NO_SAFE_CHANGE
    assert "promises" in answer.message and "900.0%" in answer.message


def test_two_targets_of_which_one_is_kept_leave_the_kept_one_kept() -> None:
    slo = Slo(latencies=(LatencyTarget(Latency.TTFT, 95, 0.3), LatencyTarget(Latency.E2E, 95, 30.0)))
    plan = planned(long_prompts(slo=slo))
    assert "ttft.p95" in plan.shortfall and "e2e" not in plan.shortfall


def test_sglang_is_planned_by_the_model_too() -> None:
    assert predicted(overloaded(engine="sglang", version="0.5.23"))


def test_while_everything_is_served_within_the_targets_there_is_nothing_for_the_model_to_gain() -> None:
    """A finding presses, but no configuration changes how much is served; the rules do not speak for the model."""
    full = replace(LONG_PROMPTS, kv_usage=0.99, preemptions_per_second=0.5)
    answer = propose(replace(long_prompts(slo=Slo()), **seen(full)))
    assert isinstance(answer, NoPlan)
    assert "throughput follows the load" in answer.message


def image(**changes: Any) -> PlanRequest:
    """Trimtab's own serving image, which was started for `maxNumSeqs` and runs eight sequences."""
    config = {"maxNumSeqs": 256, "maxNumActiveSeqs": 8, **changes.pop("config", {})}
    return overloaded(engine="trimtab", version="0.1.0", config=config, **changes)


def test_the_serving_image_is_predicted_as_the_vllm_inside_and_tuned_without_a_restart() -> None:
    plan, plain = planned(image()), planned(overloaded())
    assert plan.start.changes_to(plan.result) == {"maxNumActiveSeqs": plain.result["maxNumSeqs"]}
    step = plan.optimizations[0]
    assert step.effort is Effort.LIVE
    assert effect(plan, Metric.THROUGHPUT).ratio == pytest.approx(effect(plain, Metric.THROUGHPUT).ratio, rel=0.05)
    assert Metric.KV_CAPACITY not in {found.metric for found in step.effects}, "running pods keep their cache"


def test_more_than_the_serving_image_was_started_for_needs_a_restart_and_no_limit_below_it() -> None:
    plan = planned(image(config={"maxNumSeqs": 16}))
    assert int(plan.result["maxNumSeqs"]) >= 64
    assert "maxNumActiveSeqs" not in plan.result
    assert plan.optimizations[0].effort is Effort.RESTART
    locked = planned(image(config={"maxNumSeqs": 16}, locked=frozenset({"maxNumSeqs"})))
    assert locked.start.changes_to(locked.result) == {"maxNumActiveSeqs": 16}


def test_a_live_limit_that_was_bad_is_not_proposed_again_nor_one_beyond() -> None:
    first = planned(image())
    bad = EngineConfig({"maxNumSeqs": 256, "maxNumActiveSeqs": 64})
    again = planned(image(tried=(first.result, bad)))
    assert int(again.result["maxNumActiveSeqs"]) < 64


def test_a_plan_of_live_limits_is_kept_while_it_is_good() -> None:
    plan = planned(image())
    assert propose(image(plan=plan)) is plan

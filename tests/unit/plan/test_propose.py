"""What is proposed, what is not, and why."""

from __future__ import annotations

import dataclasses
import math
import pkgutil
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.plan.scenarios import Pod, known, one_slot, request, snapshot, well_batched
from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.config import EngineConfig
from trimtab.model.plan import Effort, Impact, Metric, NoPlan, Optimization, OptimizationType, Plan
from trimtab.model.reading import Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.plan import Bounds, optimizers, propose
from trimtab.plan.optimizers import OPTIMIZERS

BAD = snapshot(one_slot(), one_slot())
GOOD = snapshot(well_batched(), well_batched())


def planned(*args: Any, **kwargs: Any) -> Plan:
    proposal = propose(request(*args, **kwargs))
    assert isinstance(proposal, Plan), proposal
    return proposal


def refused(*args: Any, **kwargs: Any) -> NoPlan:
    proposal = propose(request(*args, **kwargs))
    assert isinstance(proposal, NoPlan), proposal
    return proposal


def step_of(plan: Plan, type_: OptimizationType) -> Optimization:
    return next(step for step in plan.optimizations if step.type is type_)


# --- the batch limit ------------------------------------------------------------------------------------------


def test_one_slot_with_a_long_queue_is_led_to_a_good_batch_in_one_optimization() -> None:
    plan = planned(BAD, {"maxNumSeqs": 1})
    [step] = plan.optimizations
    assert step.type is OptimizationType.BATCHING
    assert step.as_changes == {"maxNumSeqs": 32}
    assert plan.result == EngineConfig({"maxNumSeqs": 32})
    assert step.impact is Impact.CRITICAL and step.effort is Effort.RESTART and not step.alters_outputs
    assert plan.trades == {Metric.ITL}
    assert "14 requests wait" in step.description and "1 of 1 slots" in step.description
    assert set(step.addresses) == {BottleneckKind.BATCH_SIZE_SUBOPTIMAL, BottleneckKind.QUEUE_BUILDUP}
    assert plan.estimated


def test_the_predicted_effects_agree_with_what_was_measured() -> None:
    """Measured from 1 to 16 running sequences: 129 -> 700 tokens/s, ITL 7 -> 16 ms, TTFT 15 -> 0.1 s."""
    effects = {effect.metric: effect for effect in planned(BAD, {"maxNumSeqs": 1}).optimizations[0].effects}
    assert effects[Metric.THROUGHPUT].ratio == pytest.approx(700 / 129, rel=0.4)
    assert effects[Metric.ITL].low < 16 / 7 < effects[Metric.ITL].high
    assert effects[Metric.TTFT].ratio < 0.1
    for effect in effects.values():
        assert effect.low <= effect.ratio <= effect.high and effect.basis


def test_after_the_step_the_service_is_left_alone() -> None:
    answer = refused(GOOD, {"maxNumSeqs": 32})
    assert answer.reason is Reason.NOTHING_TO_IMPROVE
    assert "15 requests run and 0 wait per pod" in answer.message and "the SLO is met" in answer.message


def test_a_queue_that_holds_for_other_reasons_than_the_limit_raises_no_limit() -> None:
    answer = refused(snapshot(one_slot(running=4.0), one_slot(running=4.0)), {"maxNumSeqs": 64})
    assert answer.reason is Reason.NO_SAFE_CHANGE and "4 of 64 slots run" in answer.message


def test_the_kv_cache_bounds_the_batch() -> None:
    small = one_slot(kv_capacity=1100.0)  # tokens: room for 7 sequences of 128 at 90 %
    assert planned(snapshot(small, small), {"maxNumSeqs": 1}).result["maxNumSeqs"] == 4
    unknown = one_slot(kv_usage=0.1, changes={"kv_capacity_tokens": Unknown(Why.NOT_EXPORTED)})
    assert planned(snapshot(unknown), {"maxNumSeqs": 1}).result["maxNumSeqs"] == 8
    full = one_slot(kv_capacity=140.0)
    answer = refused(snapshot(full, full), {"maxNumSeqs": 1})
    assert "holds about 0 sequences" in answer.message


def test_the_inter_token_latency_target_bounds_the_batch() -> None:
    """9.75 ms now, and every prompt adds its 80 ms: with 16 at once 2.2 times plus a prefill."""
    tight = Slo(latencies=(LatencyTarget(Latency.ITL, 95, 0.105),))
    plan = planned(BAD, {"maxNumSeqs": 1}, slo=tight)
    assert plan.result["maxNumSeqs"] == 4
    hopeless = Slo(latencies=(LatencyTarget(Latency.ITL, 95, 0.011),))
    answer = refused(BAD, {"maxNumSeqs": 1}, slo=hopeless)
    assert answer.reason is Reason.NO_SAFE_CHANGE and "itl.p95 would be about" in answer.message


def test_a_latency_with_a_target_that_cannot_be_read_is_not_traded_away() -> None:
    blind = one_slot(changes={"itl": Unknown(Why.STALE, "old")})
    assert refused(snapshot(blind, blind), {"maxNumSeqs": 1}).reason is Reason.NO_SAFE_CHANGE


def test_an_overload_without_end_does_not_lead_to_a_batch_without_end() -> None:
    flood = one_slot(waiting=5000.0)
    value = planned(snapshot(flood), {"maxNumSeqs": 1}, slo=Slo()).result["maxNumSeqs"]
    assert isinstance(value, int) and 32 <= value <= 256


def test_more_sequences_than_the_token_budget_raise_the_budget_too() -> None:
    plan = planned(BAD, {"maxNumSeqs": 1, "maxNumBatchedTokens": 16})
    assert plan.result == EngineConfig({"maxNumSeqs": 32, "maxNumBatchedTokens": 32})


def test_an_active_limit_below_the_new_batch_is_taken_away() -> None:
    plan = planned(BAD, {"maxNumSeqs": 8, "maxNumActiveSeqs": 1})
    assert plan.result == EngineConfig({"maxNumSeqs": 32})


def test_a_limit_below_the_capacity_is_raised_in_running_pods_where_the_engine_takes_it() -> None:
    view = replace(BAD, engine="trimtab", engine_version="0.1.0")
    plan = planned(view, {"maxNumSeqs": 64, "maxNumActiveSeqs": 1})
    [step] = plan.optimizations
    assert step.as_changes == {"maxNumActiveSeqs": 32} and step.effort is Effort.LIVE
    small = planned(view, {"maxNumSeqs": 64, "maxNumActiveSeqs": 1, "maxNumScheduledTokens": 16})
    assert small.optimizations[0].as_changes == {"maxNumActiveSeqs": 32, "maxNumScheduledTokens": 32}


def test_more_than_the_engine_was_started_for_needs_new_pods() -> None:
    view = replace(BAD, engine="trimtab", engine_version="0.1.0")
    plan = planned(view, {"maxNumSeqs": 8, "maxNumActiveSeqs": 1})
    assert plan.result == EngineConfig({"maxNumSeqs": 32})
    assert plan.optimizations[0].effort is Effort.RESTART


def test_a_violated_inter_token_latency_lowers_the_batch_and_it_is_not_raised_again() -> None:
    slo = Slo(latencies=(LatencyTarget(Latency.ITL, 95, 0.045),))
    # The traffic of 2 requests/s per pod is served by a smaller batch as well.
    crowded = well_batched(itl=(0.05, 0.06), requests_per_second=2.0, running=30.0)
    lowered = planned(snapshot(crowded, crowded), {"maxNumSeqs": 64}, slo=slo)
    value = lowered.result["maxNumSeqs"]
    assert value == 16 and Metric.TTFT in lowered.trades
    # What that batch then shows, with a queue: the predicted latency of a larger one is too close to the target.
    after = one_slot(running=16.0, waiting=8.0, itl=(0.036, 0.0385), requests_per_second=2.0)
    answer = refused(snapshot(after, after), {"maxNumSeqs": 16}, slo=slo)
    assert answer.reason is Reason.NO_SAFE_CHANGE and "too close to" in answer.message


def test_a_batch_that_the_traffic_needs_is_not_lowered() -> None:
    slo = Slo(latencies=(LatencyTarget(Latency.ITL, 95, 0.045),))
    busy = well_batched(itl=(0.05, 0.06), requests_per_second=10.0, running=30.0)
    answer = refused(snapshot(busy, busy), {"maxNumSeqs": 64}, slo=slo)
    assert "more replicas are needed" in answer.message


# --- constraints and memory of what failed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ({"locked": frozenset({"maxNumSeqs"})}, "maxNumSeqs is locked"),
        ({"allowed": frozenset({"kvCacheDtype"})}, "not among the knobs that may be tuned"),
        ({"arguments": ("--max-num-seqs", "1")}, "set by the engine arguments"),
        ({"min_improvement": 1000.0}, "100000 % is asked for"),
        ({"bounds": {"maxNumSeqs": Bounds(maximum=1)}}, "1 is the most that fits"),
    ],
)
def test_a_constraint_is_kept_and_named(constraint: dict[str, Any], said: str) -> None:
    answer = refused(BAD, {"maxNumSeqs": 1}, **constraint)
    assert answer.reason is Reason.NO_SAFE_CHANGE and said in answer.message


def test_an_upper_bound_is_used_to_the_full() -> None:
    assert planned(BAD, {"maxNumSeqs": 1}, bounds={"maxNumSeqs": Bounds(1, 12)}).result["maxNumSeqs"] == 12


def test_a_lower_bound_above_what_helps_is_not_crossed() -> None:
    answer = refused(BAD, {"maxNumSeqs": 1}, bounds={"maxNumSeqs": Bounds(minimum=64)})
    assert "below its lower bound" in answer.message


def test_what_failed_is_not_tried_again_and_a_smaller_step_is_taken_instead() -> None:
    first = planned(BAD, {"maxNumSeqs": 1})
    second = planned(BAD, {"maxNumSeqs": 1}, tried=(first.result,))
    assert second.result["maxNumSeqs"] == 16
    tried = tuple(EngineConfig({"maxNumSeqs": 2**i}) for i in range(1, 6))
    answer = refused(BAD, {"maxNumSeqs": 1}, tried=tried)
    assert answer.reason is Reason.NO_SAFE_CHANGE and "have been tried" in answer.message


# --- what cannot be read, is unknown, or is idle ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        (Why.NOT_SCRAPED, Reason.METRICS_MISSING),
        (Why.STALE, Reason.METRICS_STALE),
        (Why.NOT_A_NUMBER, Reason.METRICS_INVALID),
        (Why.UNREACHABLE, Reason.PROMETHEUS_UNREACHABLE),
        (Why.TIMEOUT, Reason.PROMETHEUS_TIMEOUT),
        (Why.BAD_ANSWER, Reason.PROMETHEUS_BAD_ANSWER),
    ],
)
def test_unreadable_metrics_propose_nothing_and_say_why(why: Why, reason: Reason) -> None:
    hidden = Unknown(why, "what happened")
    assert refused(snapshot(one_slot(), metrics=hidden), {"maxNumSeqs": 1}).reason is reason
    one_blind = snapshot(one_slot(), one_slot(changes={"waiting": hidden}))
    answer = refused(one_blind, {"maxNumSeqs": 1})
    assert answer.reason is reason and "pod-1" in answer.message


def test_nan_is_invalid_and_not_zero() -> None:
    nonsense = one_slot(changes={"running": known(float("nan"))})
    assert refused(snapshot(one_slot(), nonsense), {"maxNumSeqs": 1}).reason is Reason.METRICS_INVALID


def test_no_pod_is_missing_metrics_and_no_request_is_no_traffic() -> None:
    assert refused(snapshot(), {"maxNumSeqs": 1}).reason is Reason.METRICS_MISSING
    still = Pod(running=0.0, requests_per_second=0.0)
    assert refused(snapshot(still, still), {"maxNumSeqs": 1}).reason is Reason.NO_TRAFFIC


def test_engines_and_versions_that_cannot_be_tuned_are_said_as_such() -> None:
    for engine, version, reason in (
        ("unheard-of", "1.0", Reason.UNKNOWN_ENGINE),
        ("vllm", "9.9.9", Reason.UNSUPPORTED_ENGINE_VERSION),
        ("tgi", "3.3.7", Reason.NO_SAFE_CHANGE),
    ):
        proposal = propose(dataclasses.replace(request(BAD, {}), engine=engine, version=version))
        assert isinstance(proposal, NoPlan) and proposal.reason is reason


# --- the other families ----------------------------------------------------------------------------------------


def full_cache(**figures: Any) -> Pod:
    base: dict[str, Any] = {
        "running": 12.0,
        "waiting": 6.0,
        "kv_usage": 0.99,
        "kv_capacity": 3000.0,
        "prompt": 256.0,
        "output": 128.0,
        "preemptions_per_second": 1.0,
        "ttft": (3.0, 4.0),
        "queue": 2.5,
        "e2e": (6.0, 9.0),
        "itl": (0.02, 0.06),
    }
    return Pod(**{**base, **figures})


def test_a_full_cache_on_a_cpu_grows_when_the_container_has_room_and_is_kept_in_8_bits() -> None:
    view = snapshot(full_cache(), full_cache())
    plan = planned(view, {"maxNumSeqs": 16, "kvCacheMemoryMebibytes": 32}, memory_limit_bytes=4 << 30)
    assert step_of(plan, OptimizationType.MEMORY).as_changes == {"kvCacheMemoryMebibytes": 64}
    eight_bits = step_of(plan, OptimizationType.KV_CACHE)
    assert eight_bits.as_changes == {"kvCacheDtype": "fp8"} and eight_bits.alters_outputs and plan.alters_outputs
    # What cannot change answers comes first.
    assert [step.alters_outputs for step in plan.optimizations] == sorted(s.alters_outputs for s in plan.optimizations)


def test_a_cache_that_does_not_fit_the_container_does_not_grow() -> None:
    view = snapshot(full_cache(memory_bytes=3.8e9), full_cache())
    plan = planned(view, {"maxNumSeqs": 16, "kvCacheMemoryMebibytes": 512}, memory_limit_bytes=4 << 30)
    assert all("kvCacheMemoryMebibytes" not in step.as_changes for step in plan.optimizations)
    assert any("do not fit" in item.reason for item in plan.rejected)


def test_a_full_cache_on_a_gpu_takes_more_memory_and_an_a100_gets_no_fp8_cache() -> None:
    view = snapshot(full_cache(), full_cache())
    hopper = planned(view, {"maxNumSeqs": 16, "gpuMemoryUtilizationPercent": 80}, device="H100", gpus_per_pod=1)
    assert hopper.result["gpuMemoryUtilizationPercent"] == 95 and hopper.result["kvCacheDtype"] == "fp8"
    assert hopper.gpus_while_rolling_out == 3
    ampere = planned(view, {"maxNumSeqs": 16, "gpuMemoryUtilizationPercent": 80}, device="A100", gpus_per_pod=1)
    assert "kvCacheDtype" not in ampere.result
    assert "quantization" not in ampere.result


def test_the_effect_of_a_combination_is_neither_the_sum_nor_the_product_of_its_parts() -> None:
    plan = planned(snapshot(full_cache(), full_cache()), {"maxNumSeqs": 16}, device="H100", gpus_per_pod=1)
    gains = [e.ratio - 1 for s in plan.optimizations for e in s.effects if e.metric is Metric.THROUGHPUT]
    assert len(gains) > 1
    assert 1 + max(gains) < plan.improvement.ratio < math.prod(1 + gain for gain in gains)
    assert plan.improvement.ratio != pytest.approx(1 + sum(gains), abs=1e-3)
    assert plan.improvement.metric is Metric.THROUGHPUT
    assert plan.improvement.low <= plan.improvement.ratio <= plan.improvement.high


def test_a_model_that_is_quantized_already_is_not_quantized_again() -> None:
    view = snapshot(full_cache(), full_cache())
    plan = planned(view, {"maxNumSeqs": 16}, device="H100", gpus_per_pod=1, model_quantization="awq")
    assert "quantization" not in plan.result
    assert any("quantized already (awq)" in item.reason for item in plan.rejected)


def test_idle_gpus_of_the_pod_are_used() -> None:
    plan = planned(snapshot(full_cache(), full_cache()), {"maxNumSeqs": 16}, device="H100", gpus_per_pod=4)
    assert plan.result["tensorParallelSize"] == 4
    assert plan.gpus_while_rolling_out == 12


def test_long_prompts_that_could_share_beginnings_get_prefix_caching() -> None:
    pod = Pod(
        prompt=1152.0,
        output=32.0,
        running=8.0,
        waiting=2.0,
        ttft=(2.0, 4.0),
        queue=0.5,
        e2e=(5.0, 8.0),
        itl=(0.05, 0.3),
    )
    plan = planned(snapshot(pod, pod), {"enablePrefixCaching": False, "maxNumSeqs": 64}, slo=Slo())
    assert step_of(plan, OptimizationType.KV_CACHE).as_changes == {"enablePrefixCaching": True}


def test_stalls_behind_long_prompts_make_the_steps_smaller() -> None:
    slo = Slo(latencies=(LatencyTarget(Latency.ITL, 99, 0.25),))
    pod = Pod(prompt=1024.0, output=64.0, running=8.0, itl=(0.012, 1.08), ttft=(1.0, 2.0), e2e=(3.0, 5.0))
    plan = planned(snapshot(pod, pod), {"maxNumSeqs": 8}, slo=slo)
    assert step_of(plan, OptimizationType.BATCHING).as_changes == {"maxNumBatchedTokens": 128}
    assert Metric.TTFT in plan.trades


def test_tiny_steps_for_long_prompts_become_larger() -> None:
    pod = Pod(
        prompt=1024.0,
        output=32.0,
        running=8.0,
        waiting=3.0,
        ttft=(3.4, 4.5),
        queue=0.2,
        e2e=(5.0, 6.5),
        itl=(0.05, 0.06),
    )
    plan = planned(snapshot(pod, pod), {"maxNumBatchedTokens": 64, "maxNumSeqs": 32}, slo=Slo())
    assert plan.result["maxNumBatchedTokens"] == 512


def test_eager_execution_is_compiled_when_requests_wait() -> None:
    plan = planned(BAD, {"maxNumSeqs": 1, "enforceEager": True})
    assert plan.result == EngineConfig({"maxNumSeqs": 32, "enforceEager": False})
    assert [step.impact for step in plan.optimizations] == sorted((s.impact for s in plan.optimizations), reverse=True)


def test_sglang_gets_its_own_flags_and_an_order_for_shared_prefixes() -> None:
    pod = one_slot(hit_rate=0.4, prompt=512.0)
    view = snapshot(pod, pod, engine="sglang", version="0.5.23")
    plan = planned(view, {"maxNumSeqs": 1}, device="H100", gpus_per_pod=1, slo=Slo())
    assert plan.result["schedulingPolicy"] == "lpm"
    assert plan.result["maxNumSeqs"] == 32


# --- the plan as a thing -----------------------------------------------------------------------------------------


def test_the_same_request_gives_the_same_plan_and_the_same_name() -> None:
    one, other = planned(BAD, {"maxNumSeqs": 1}), planned(BAD, {"maxNumSeqs": 1})
    assert one == other and one.name == other.name


def test_noise_in_the_demand_makes_no_new_plan() -> None:
    first = planned(BAD, {"maxNumSeqs": 1})
    fewer = snapshot(one_slot(waiting=10.0), one_slot(waiting=11.0))
    assert planned(fewer, {"maxNumSeqs": 1}).result["maxNumSeqs"] == 16
    assert planned(fewer, {"maxNumSeqs": 1}, plan=first) == first
    # Not when it has been tried since, nor when the configuration is another.
    assert planned(fewer, {"maxNumSeqs": 1}, plan=first, tried=(first.result,)) != first
    full = snapshot(one_slot(running=2.0, waiting=12.0), one_slot(running=2.0, waiting=12.0))
    assert planned(full, {"maxNumSeqs": 2}, plan=first) != first


def test_every_family_is_listed_in_order() -> None:
    assert [type_ for type_, _ in OPTIMIZERS] == sorted(OptimizationType)
    files = {module.name for module in pkgutil.iter_modules(optimizers.__path__)}
    assert files == {optimize.__module__.rpartition(".")[2] for _, optimize in OPTIMIZERS}

"""The memory model for any model of the registry: more room is never less cache, and nothing exceeds the memory."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trimtab.catalogue import GPUS, find_device
from trimtab.catalogue.models import MODELS, ModelShape
from trimtab.plan.memory import DoesNotFit, Fits, fit, weights_bytes
from trimtab.plan.point import Layout, ServingPoint


@st.composite
def points(draw: st.DrawFn) -> ServingPoint:
    model: ModelShape = draw(st.sampled_from(MODELS))
    return ServingPoint(
        model=model,
        device=find_device(draw(st.sampled_from(sorted(GPUS)))),
        engine=draw(st.sampled_from(["vllm", "sglang", "trtllm"])),
        layout=Layout(tensor=draw(st.sampled_from([1, 2, 4, 8])), pipeline=draw(st.integers(1, 4))),
        weights=draw(st.sampled_from(["bf16", "fp8", "nvfp4", "int4_wo"])),
        kv_cache=draw(st.sampled_from(["bf16", "fp8"])),
        max_num_seqs=draw(st.integers(1, 512)),
        max_num_batched_tokens=draw(st.integers(512, 16384)),
        max_model_len=draw(st.integers(1, 32768)),
        memory_utilization=draw(st.floats(0.3, 0.95)),
    )


def _fitting(point: ServingPoint) -> Fits:
    result = fit(point)
    assume(isinstance(result, Fits))
    assert isinstance(result, Fits)
    return result


@settings(max_examples=150)
@given(points())
def test_the_answer_is_a_size_within_the_memory_or_a_sentence(point: ServingPoint) -> None:
    result = fit(point)
    if isinstance(result, DoesNotFit):
        assert result.reason.endswith(".")
        return
    assert point.device.gpu is not None
    held = result.weights_bytes + result.kv_bytes + result.activation_bytes + result.reserve_bytes
    assert held <= point.device.gpu.usable_bytes
    assert result.kv_tokens > 0
    assert result.max_concurrency(100, 10) > 0


@settings(max_examples=100)
@given(points(), st.floats(0.0, 0.04))
def test_a_larger_share_is_never_less_cache(point: ServingPoint, more: float) -> None:
    less = _fitting(point)
    assert point.memory_utilization is not None
    assert _fitting(replace(point, memory_utilization=point.memory_utilization + more)).kv_bytes >= less.kv_bytes


@settings(max_examples=100)
@given(points(), st.integers(1, 4000), st.integers(1, 4000))
def test_longer_requests_never_fit_more_often(point: ServingPoint, length: int, more: int) -> None:
    room = _fitting(point)
    assert room.max_concurrency(length + more, 1) <= room.max_concurrency(length, 1)


@settings(max_examples=100)
@given(points())
def test_twice_the_gpus_hold_at_least_half_of_the_weights_each(point: ServingPoint) -> None:
    twice = replace(point, layout=replace(point.layout, tensor=2 * point.layout.tensor))
    assume(not isinstance(fit(twice), DoesNotFit))
    assert weights_bytes(point) / 2 <= weights_bytes(twice) + 1
    assert weights_bytes(twice) <= weights_bytes(point)

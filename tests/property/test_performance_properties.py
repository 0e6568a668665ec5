"""The performance model over arbitrary configurations: finite, in order, never faster than physics."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.catalogue.gpus import GPUS, Device
from trimtab.catalogue.models import MODELS
from trimtab.plan.performance import forecast
from trimtab.plan.performance.batch import batch_of
from trimtab.plan.performance.coefficients import shipped
from trimtab.plan.performance.step import Steps
from trimtab.plan.point import Layout, ServingPoint, Traffic

MODELS_BY_NAME = sorted(MODELS, key=lambda model: model.name)

points = st.builds(
    ServingPoint,
    model=st.sampled_from(MODELS_BY_NAME),
    device=st.sampled_from(sorted(GPUS.values(), key=lambda gpu: gpu.name)).map(lambda g: Device(cpu=False, gpu=g)),
    engine=st.sampled_from(["vllm", "sglang", "trtllm"]),
    version=st.sampled_from(["", "0.6.0", "0.12.0", "0.32.0"]),
    layout=st.builds(
        Layout,
        tensor=st.sampled_from([1, 2, 4, 8, 16]),
        pipeline=st.sampled_from([1, 2]),
        data=st.sampled_from([1, 2, 8]),
    ),
    weights=st.sampled_from(["bf16", "fp8", "fp8_block", "nvfp4", "int8_wo", "int4_wo", "mxfp4"]),
    kv_cache=st.sampled_from(["bf16", "fp8"]),
    max_num_seqs=st.one_of(st.none(), st.integers(1, 4096)),
    max_num_batched_tokens=st.one_of(st.none(), st.integers(256, 65536)),
    cuda_graphs=st.booleans(),
    draft_tokens=st.integers(0, 5),
)
lengths = st.floats(1, 120_000)
traffic = st.one_of(
    st.builds(Traffic, prompt=lengths, output=lengths, concurrency=st.floats(1, 4096), prefix_share=st.floats(0, 1)),
    st.builds(Traffic, prompt=lengths, output=lengths, rate=st.floats(1e-3, 1e3), burstiness=st.floats(0, 20)),
)


@settings(max_examples=60)
@given(points, traffic)
def test_every_question_has_a_sound_answer(point: ServingPoint, load: Traffic) -> None:
    found = forecast([point], [load])
    for latency in (found.ttft, found.itl, found.e2e):
        levels = np.array([latency.p50[0], latency.p95[0], latency.p99[0]])
        assert not np.isnan(levels).any() and (levels > 0).all()
        assert levels[0] <= levels[1] <= levels[2]
    assert np.isfinite(found.tpot[0])
    assert np.isfinite(found.output_tokens[0]) and found.output_tokens[0] > 0
    assert 0 < found.kv_use[0] <= 1
    assert bool(found.saturated[0]) == np.isinf(found.ttft.mean[0])


@settings(max_examples=60)
@given(points, lengths, st.floats(1, 1024))
def test_no_step_is_faster_than_memory_and_matrix_units_allow(
    point: ServingPoint, prompt: float, concurrency: float
) -> None:
    load = Traffic(prompt=prompt, output=100, concurrency=concurrency)
    steps = Steps(batch_of([point], [load]), shipped())
    one, context = np.ones(1), np.array([prompt])
    assert steps.decode(one, context)[0] >= steps.bound(one, context)[0] * (1 - 1e-9)
    found = forecast([point], [load])
    assert found.tpot[0] * steps.tokens_per_step[0] >= steps.bound(one, one)[0] * (1 - 1e-9)
    assert found.ttft.mean[0] >= steps.prefill_bound[0] * (1 - 1e-9)

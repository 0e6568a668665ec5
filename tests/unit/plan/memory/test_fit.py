"""What fits, how much room is left, and the sentences where it does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.unit.plan.memory.points import GIB, fits, point, refusal
from trimtab.catalogue import Device, Processor
from trimtab.catalogue.models import Dense
from trimtab.plan.memory import Limits, MemoryModel, limits_of
from trimtab.plan.point import Layout

LLAMA = "meta-llama/Llama-3.1-8B"
LARGE = "meta-llama/Llama-3.1-70B"


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_the_parts_fill_the_memory(engine: str) -> None:
    asked = point(LLAMA, engine=engine, max_num_seqs=256, max_model_len=8192)
    room = fits(asked)
    parts = room.weights_bytes + room.kv_bytes + room.activation_bytes + room.reserve_bytes
    assert asked.device.gpu is not None
    assert parts == asked.device.gpu.usable_bytes
    assert min(room.weights_bytes, room.kv_bytes, room.activation_bytes, room.reserve_bytes) > 0


def test_concurrency_is_what_the_tokens_allow() -> None:
    room = fits(point(LLAMA, max_model_len=8192))
    assert room.max_concurrency(prompt=7168, output=1024) == pytest.approx(room.kv_tokens / 8192, rel=0.001)
    assert room.max_concurrency(1024, 1024) == pytest.approx(4 * room.max_concurrency(7168, 1024), rel=0.001)


def test_groups_of_attention_data_parallelism_add_up() -> None:
    layout = Layout(tensor=1, data=8, expert=8)
    room = fits(point("deepseek-ai/DeepSeek-V3", "H200", layout=layout, max_model_len=8192))
    assert room.kv_tokens == pytest.approx(8 * room.kv_bytes / 70_272, rel=0.001)
    assert room.max_concurrency(4096, 4096) == pytest.approx(room.kv_tokens / 8192, rel=0.001)


def test_each_engine_has_its_own_share_of_memory() -> None:
    """More of it is more cache, whatever the share is of."""
    for engine in ("vllm", "sglang", "trtllm"):
        less, more = (
            fits(point(LLAMA, engine=engine, memory_utilization=share, max_model_len=4096)).kv_bytes
            for share in (0.7, 0.8)
        )
        assert 6 * GIB < more - less < 8 * GIB


def test_sglang_without_a_share_leaves_room_for_its_chunks() -> None:
    """By its formula an H100 keeps 512 + 1.5 x 8,192 + 2 x 256 + 128 MiB."""
    share = float(limits_of(point(LLAMA, engine="sglang")).utilization)
    assert share == pytest.approx(1 - (512 + 12288 + 512 + 128) / (80 * 1024), abs=1e-6)
    fewer = limits_of(point(LLAMA, engine="sglang", max_num_batched_tokens=16384))
    assert float(fewer.utilization) < share


@pytest.mark.parametrize(
    ("gpu", "layout", "reserved"),
    [
        ("L4", Layout(), 512 + 1.5 * 4096 + 2 * 24 + 128),
        ("L4", Layout(tensor=4), 512 + 1.5 * 4096 + 2 * 80 + 4 * 128),
        ("H200", Layout(tensor=2, data=4), 512 + 1.5 * 8192 + 2 * 512 + 8 * 128 + 3 * 512 * 4),
        ("MI300X", Layout(), 512 + 1.5 * 16384 + 2 * 512 + 128),
    ],
)
def test_the_reserve_of_sglang_follows_the_gpu_and_the_layout(gpu: str, layout: Layout, reserved: float) -> None:
    asked = point("mistralai/Mixtral-8x7B-v0.1", gpu, engine="sglang", layout=layout)
    assert asked.device.gpu is not None
    kept = (1 - float(limits_of(asked).utilization)) * asked.device.gpu.memory_bytes
    assert kept == pytest.approx(reserved * 2**20, rel=1e-6)


def test_newer_versions_of_vllm_take_more_and_count_their_graphs() -> None:
    old, new = (limits_of(point(LLAMA, version=version)) for version in ("0.19.0", "0.20.0"))
    assert (float(old.utilization), float(new.utilization)) == (0.90, 0.92)
    eager, graphs = (fits(point(LLAMA, version="0.32.0", cuda_graphs=on, max_model_len=4096)) for on in (False, True))
    assert eager.kv_bytes > graphs.kv_bytes


@pytest.mark.parametrize("version", ["", "nightly-5b8c30d62b754b57", "9.9.9"])
def test_an_unknown_version_has_the_defaults_of_the_newest_known(version: str) -> None:
    for engine, newest in (("vllm", "0.32.0"), ("sglang", "0.5.23")):
        unknown, known = (limits_of(point(LLAMA, engine=engine, version=v)) for v in (version, newest))
        assert float(unknown.step_tokens) == float(known.step_tokens) == 8192
        assert float(unknown.utilization) == float(known.utilization)


@pytest.mark.parametrize("field", ["max_num_seqs", "max_num_batched_tokens"])
def test_larger_steps_leave_less_cache(field: str) -> None:
    small: dict[str, Any] = {"max_num_seqs": 256, "max_num_batched_tokens": 8192, "max_model_len": 4096}
    large = small | {field: small[field] * 8, "max_num_batched_tokens": max(8192, small[field] * 8)}
    assert fits(point(LLAMA, **large)).kv_bytes < fits(point(LLAMA, **small)).kv_bytes


def test_a_fixed_size_of_the_cache_is_taken_as_it_is() -> None:
    room = fits(point(LLAMA, kv_cache_bytes=10 * GIB, max_model_len=4096))
    assert room.kv_bytes == 10 * GIB
    assert room.kv_tokens == 10 * GIB // 131_072


def test_a_cpu_takes_its_share_of_the_memory_that_is_known() -> None:
    processor = Processor(cores=8, memory_bytes=64 * GIB, bandwidth=1e11, bf16_flops=1e12)
    asked = replace(point(LLAMA, max_model_len=4096, memory_utilization=0.5), device=Device(True, processor=processor))
    room = fits(asked)
    assert 15 * GIB < room.kv_bytes < 17 * GIB
    assert fits(replace(asked, kv_cache_bytes=GIB)).kv_tokens == 8192


def test_a_model_that_is_too_large_is_refused_with_the_gpus_that_would_hold_it() -> None:
    reason = refusal(point(LARGE))
    assert "131.4 GiB on each device" in reason
    assert "of 79.2 GiB" in reason
    assert "Set tensorParallelSize to 2" in reason
    assert "checkpoint in fp8" in reason


def test_a_model_too_large_for_a_whole_node_says_so() -> None:
    reason = refusal(point("deepseek-ai/DeepSeek-V3", "L4", tensor=8))
    assert reason.endswith("Use devices with more memory, or more than one node.")


def test_a_context_that_does_not_fit_is_refused_with_the_longest_that_does() -> None:
    reason = refusal(point(LLAMA, "L4"))
    assert "One sequence of 131,072 tokens" in reason and "needs 16.0 GiB" in reason
    longest = int(reason.split("maxModelLen to ")[1].split(" at most")[0].replace(",", ""))
    fits(point(LLAMA, "L4", max_model_len=longest))
    assert "maxModelLen" in refusal(point(LLAMA, "L4", max_model_len=longest + 17))


def test_a_fixed_size_without_room_is_refused() -> None:
    assert "Lower kvCacheMemoryMebibytes" in refusal(point(LLAMA, kv_cache_bytes=79 * GIB))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"engine": "tgi"}, "engine 'tgi'"),
        ({"weights": "q4_k_m"}, "format 'q4_k_m' of weights"),
        ({"experts": "int3"}, "format 'int3' of experts"),
        ({"kv_cache": "int8"}, "format 'int8' of kv_cache"),
        ({"max_model_len": 0}, "max_model_len is 0"),
        ({"max_num_seqs": -1}, "max_num_seqs is -1"),
        ({"memory_utilization": 1.5}, "memory_utilization is 1.5"),
        ({"layout": Layout(tensor=0)}, "below 1"),
        ({"layout": Layout(tensor=3)}, "heads of meta-llama/Llama-3.1-8B do not divide over 3 GPUs"),
        ({"layout": Layout(tensor=64)}, "32 query heads"),
        ({"layout": Layout(pipeline=33)}, "33 pipeline stages"),
        ({"layout": Layout(expert=2, tensor=2)}, "no experts"),
    ],
)
def test_a_point_that_no_engine_would_start_is_refused_whatever_the_memory(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(point(LLAMA, **fields))


def test_experts_must_divide_over_the_gpus() -> None:
    mixture = "mistralai/Mixtral-8x7B-v0.1"
    assert "expertParallelSize" in refusal(point(mixture, layout=Layout(tensor=4, expert=3)))
    spread = Layout(tensor=8, data=2, expert=16)
    assert "8 experts are fewer than 16 GPUs" in refusal(point(mixture, layout=spread))


def test_feed_forward_layers_must_divide_over_the_gpus() -> None:
    asked = point(LLAMA, tensor=8)
    (block,) = asked.model.blocks
    narrow = replace(asked.model, blocks=(replace(block, feed_forward=Dense(intermediate=14332)),))
    assert "14332 wide" in refusal(replace(asked, model=narrow))


def test_a_device_of_unknown_memory_needs_a_fixed_cache() -> None:
    assert "kvCacheMemoryMebibytes" in refusal(point(LLAMA, "cpu"))
    assert "not in the catalogue" in refusal(point(LLAMA, "TPU-v9"))
    assert fits(point(LLAMA, "cpu", kv_cache_bytes=GIB, max_model_len=2048)).reserve_bytes == 0


def test_many_configurations_are_sized_at_once_as_one_by_one() -> None:
    lengths, steps, shares = np.meshgrid([2048.0, 8192.0], [2048.0, 8192.0], [0.5, 0.9])
    model = MemoryModel.of(point("google/gemma-3-27b-it"))
    limits = Limits(sequences=np.full(lengths.shape, 64.0), step_tokens=steps, length=lengths, utilization=shares)
    together = model.kv_tokens(limits)
    for index in np.ndindex(lengths.shape):
        asked = point(
            "google/gemma-3-27b-it",
            max_num_seqs=64,
            max_num_batched_tokens=int(steps[index]),
            max_model_len=int(lengths[index]),
            memory_utilization=float(shares[index]),
        )
        alone = model.kv_tokens(limits_of(asked))
        assert together[index] == alone
        assert (alone > 0) == (shares[index] > 0.8)

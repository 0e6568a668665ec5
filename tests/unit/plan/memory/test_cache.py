"""The KV cache: published bytes per token, blocks as vLLM hands them out, windows, states, copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.plan.memory.points import GIB, fits, point
from trimtab.catalogue import Device
from trimtab.catalogue.models import Block, Dense, GroupedQuery, ModelShape
from trimtab.plan.memory import token_bytes
from trimtab.plan.memory.cache import cache_of
from trimtab.plan.point import Layout, ServingPoint

# Bytes per token in bf16. DeepSeek-V3, Qwen2.5-72B and Llama-3.1-405B: "Insights into DeepSeek-V3" (Zhao et al., 2025,
# table 1). Others: 2 x layers x key heads x head dimension x 2 bytes by their config.json.
PER_TOKEN = {
    "deepseek-ai/DeepSeek-V3": 70_272,
    "Qwen/Qwen2.5-72B-Instruct": 327_680,
    "meta-llama/Llama-3.1-405B": 516_096,
    "meta-llama/Llama-3.1-8B": 131_072,
    "meta-llama/Llama-3.1-70B": 327_680,
    "meta-llama/Llama-2-7b-hf": 524_288,
    "Qwen/Qwen3-32B": 262_144,
    "moonshotai/Kimi-K2-Instruct": 70_272,
}


@pytest.mark.parametrize(("name", "size"), PER_TOKEN.items())
def test_a_token_takes_the_published_bytes(name: str, size: int) -> None:
    assert token_bytes(point(name)) == size


def test_opt_13b_takes_the_800_kb_of_the_paged_attention_paper() -> None:
    """Kwon et al., 2023, section 3: 2 x 5120 x 40 x 2 bytes."""
    heads = GroupedQuery(q_heads=40, kv_heads=40, head_dim=128)
    blocks = (Block(40, heads, Dense(intermediate=20480, gated=False)),)
    opt = ModelShape(name="facebook/opt-13b", hidden=5120, vocab=50272, blocks=blocks, max_positions=2048)
    assert token_bytes(replace(point("facebook/opt-6.7b"), model=opt)) == 819_200


@pytest.mark.parametrize(("tensor", "size"), [(1, 385_024 // 2), (2, 96_256), (4, 48_128), (8, 48_128)])
def test_key_heads_are_shared_out_until_each_gpu_has_one(tensor: int, size: int) -> None:
    """Qwen3-235B-A22B has four. On four GPUs vLLM reported 178,880 tokens in 8.11 GiB (vllm-project/vllm#21348)."""
    assert token_bytes(point("Qwen/Qwen3-235B-A22B", tensor=tensor)) == size
    assert pytest.approx(8.11 * GIB, rel=0.015) == 48_128 * 178_880


def test_the_latent_vector_is_whole_on_every_gpu() -> None:
    assert token_bytes(point("deepseek-ai/DeepSeek-V3", "H200", tensor=8)) == 70_272


def test_sparse_attention_holds_an_index_besides() -> None:
    """DeepSeek-V3.2: 132 bytes of keys of the indexer; over fp8 656 bytes per layer (vLLM's fp8_ds_mla)."""
    sparse = point("deepseek-ai/DeepSeek-V3.2-Exp", "H200", tensor=8)
    assert token_bytes(sparse) == 61 * (1152 + 132)
    assert token_bytes(replace(sparse, kv_cache="fp8")) == 61 * (656 + 132)


def test_fp8_halves_the_cache() -> None:
    whole = point("meta-llama/Llama-3.1-8B")
    assert token_bytes(replace(whole, kv_cache="fp8")) == token_bytes(whole) // 2


def test_a_pipeline_holds_the_layers_of_its_fullest_stage() -> None:
    assert (
        token_bytes(point("meta-llama/Llama-3.1-405B", layout=Layout(tensor=8, pipeline=4))) == 516_096 // 8 * 32 // 126
    )


def _sequence(asked: ServingPoint, length: int, step: int = 2048) -> float:
    return float(cache_of(asked).sequence_bytes(np.asarray(float(length)), np.asarray(float(step))))


def test_a_window_bounds_what_a_sequence_holds() -> None:
    """Mistral-7B v0.1 looks back 4,096 tokens; with two steps of 2,048 in flight it holds 8,191 and a block more."""
    windowed = point("mistralai/Mistral-7B-v0.1")
    assert _sequence(windowed, 1024) == pytest.approx(1024 * 131_072, rel=0.02)
    assert _sequence(windowed, 32_768) == (512 + 1) * 16 * 131_072
    assert _sequence(windowed, 32_768) == _sequence(windowed, 16_384)


def test_mixed_layers_grow_by_the_full_ones_alone() -> None:
    """gpt-oss-120b: 18 of 36 layers keep all tokens, 2 x 8 x 64 x 2 bytes each."""
    growth = _sequence(point("openai/gpt-oss-120b"), 65_536) - _sequence(point("openai/gpt-oss-120b"), 32_768)
    assert growth == 18 * 2048 * 32_768
    assert token_bytes(point("openai/gpt-oss-120b")) == 18 * 2048


def test_vllm_splits_kinds_of_layers_into_groups_of_the_rarest() -> None:
    """Gemma-3-27b: ten full layers and 52 with a window: groups of ten, six of them with windows, one not full."""
    full, windowed = sorted(cache_of(point("google/gemma-3-27b-it")).groups, key=lambda group: group.window)
    assert (full.repeats, windowed.repeats) == (1, 6)
    assert full.block_bytes == windowed.block_bytes == 10 * 16 * 2 * 16 * 128 * 2


def test_other_engines_hold_no_padding_between_kinds_of_layers() -> None:
    pooled = _sequence(point("google/gemma-3-27b-it"), 32_768)
    assert _sequence(point("google/gemma-3-27b-it", engine="sglang"), 32_768) < pooled


def test_a_state_takes_the_same_for_every_length() -> None:
    """Qwen3-Next: 12 full layers of 2 x 2 x 256 x 2 bytes per token beside 36 states."""
    hybrid = point("Qwen/Qwen3-Next-80B-A3B-Instruct", engine="sglang")
    state = 36 * (32 * 128 * 128 * 2 + 3 * (2 * 16 * 128 + 32 * 128) * 2)
    assert _sequence(hybrid, 1024) == state + 1024 * 12 * 2048
    assert _sequence(hybrid, 4096) == state + 4096 * 12 * 2048


def test_vllm_makes_blocks_as_large_as_a_state() -> None:
    """Qwen3-Next: a state of 1,097,728 bytes at 2,048 bytes per token and layer needs blocks of 544 tokens."""
    groups = cache_of(point("Qwen/Qwen3-Next-80B-A3B-Instruct")).groups
    assert {group.block_tokens for group in groups} == {544}
    assert {group.block_bytes for group in groups} == {12 * 544 * 2048}
    assert sum(group.repeats * max(1, group.states) for group in groups) == 1 + 3 * 2


def test_a_cpu_counts_whole_blocks_of_128_tokens() -> None:
    """m75 of the tests in 1 GiB: 87,296 tokens in bf16 and 174,720 in fp8, as vLLM 0.32 logged."""
    heads = GroupedQuery(q_heads=12, kv_heads=4, head_dim=64)
    small = ModelShape(
        name="m75",
        hidden=768,
        vocab=512,
        blocks=(Block(12, heads, Dense(intermediate=2048)),),
        max_positions=2048,
    )
    asked = ServingPoint(
        model=small, device=Device(cpu=True), engine="vllm", version="0.32.0", kv_cache_bytes=GIB, max_model_len=2048
    )
    assert fits(asked).kv_tokens == 87_296
    assert fits(replace(asked, kv_cache="fp8")).kv_tokens == 174_720


def test_a_cpu_holds_latent_vectors_in_blocks_of_sixteen() -> None:
    asked = point("deepseek-ai/DeepSeek-V2-Lite", "cpu", kv_cache_bytes=GIB, max_model_len=1000)
    assert {group.block_tokens for group in cache_of(asked).groups} == {16}


def test_a_length_that_ends_inside_a_block_holds_the_block() -> None:
    asked = point("meta-llama/Llama-3.1-8B", kv_block_tokens=128)
    assert _sequence(asked, 129) == 2 * 128 * 131_072


def test_only_the_layers_that_keep_tokens_count_per_token() -> None:
    """MiniMax-Text-01: ten of 80 layers, one key head on each of eight GPUs."""
    assert token_bytes(point("MiniMaxAI/MiniMax-Text-01", "H200", tensor=8)) == 10 * 2 * 128 * 2

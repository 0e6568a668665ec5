"""Bytes of weights: published sizes of checkpoints, and what is shared out over GPUs and what is not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.unit.plan.memory.points import point, shape
from trimtab.catalogue.models import model_parameters
from trimtab.plan.memory import weights_bytes
from trimtab.plan.point import Layout

# `metadata.total_size` of model.safetensors.index.json in the Hugging Face repositories.
TOTAL_SIZES = {
    "meta-llama/Llama-3.1-8B": 16_060_522_496,
    "meta-llama/Llama-3.1-70B": 141_107_412_992,
    "mistralai/Mistral-7B-v0.1": 14_483_464_192,
    "mistralai/Mixtral-8x7B-v0.1": 93_405_585_408,
    "Qwen/Qwen2.5-7B-Instruct": 15_231_233_024,
    "Qwen/Qwen3-32B": 65_524_246_528,
    "Qwen/Qwen3-30B-A3B": 61_064_245_248,
    "google/gemma-2-9b": 18_483_411_968,
    "microsoft/phi-4": 29_319_014_400,
    "openai/gpt-oss-20b": 13_761_264_768,
    "openai/gpt-oss-120b": 65_248_815_744,
}


@pytest.mark.parametrize(("name", "size"), TOTAL_SIZES.items())
def test_the_weights_take_what_the_checkpoint_takes(name: str, size: int) -> None:
    assert weights_bytes(point(name)) == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize(
    ("fmt", "bytes_each"), [("fp8", 1.0), ("fp8_block", 1.0), ("nvfp4", 0.5625), ("mxfp4", 0.53125), ("int4_wo", 0.52)]
)
def test_a_format_shrinks_the_layers_and_leaves_embedding_and_head(fmt: str, bytes_each: float) -> None:
    model = shape("Qwen/Qwen2.5-72B-Instruct")
    parameters = model_parameters(model)
    expected = bytes_each * parameters.layers + 2 * (parameters.embedding + parameters.head)
    assert weights_bytes(point(model.name, weights=fmt)) == pytest.approx(expected, rel=0.002)


def test_a_dense_model_is_halved_by_twice_the_gpus_but_for_its_norms() -> None:
    sizes = [weights_bytes(point("meta-llama/Llama-3.1-70B", tensor=tensor)) for tensor in (1, 2, 4, 8)]
    for one, half in pairwise(sizes):
        assert half == pytest.approx(one / 2, rel=0.001)
        assert half > one / 2


def test_key_value_projections_are_copied_where_there_are_fewer_heads_than_gpus() -> None:
    """Qwen2.5-7B has four key heads: eight GPUs hold each twice."""
    model = shape("Qwen/Qwen2.5-7B-Instruct")
    key_value = 28 * 2 * 4 * 128 * model.hidden * 2
    whole, eighth = (weights_bytes(point(model.name, tensor=tensor)) for tensor in (1, 8))
    assert eighth - whole / 8 == pytest.approx(key_value / 8, rel=0.05)


def test_a_tied_head_takes_nothing_except_at_both_ends_of_a_pipeline() -> None:
    tied = point("meta-llama/Llama-3.2-1B")
    untied = replace(tied, model=replace(tied.model, tied_embeddings=False))
    assert weights_bytes(untied) - weights_bytes(tied) == 2 * 128256 * 2048
    in_stages = Layout(pipeline=2)
    assert weights_bytes(replace(untied, layout=in_stages)) == weights_bytes(replace(tied, layout=in_stages))


def test_rows_of_the_vocabulary_are_filled_up_to_sixty_four() -> None:
    """Aquila-7B has 100,008 tokens and is held with 100,032."""
    parameters = model_parameters(shape("BAAI/Aquila-7B"))
    assert weights_bytes(point("BAAI/Aquila-7B")) - 2 * parameters.total == 2 * 2 * 24 * 4096


def test_the_fullest_stage_of_a_pipeline_counts() -> None:
    """61 layers in two stages: 31 in one of them, and one of embedding and head."""
    model = shape("zai-org/GLM-4-32B-0414")
    parameters = model_parameters(model)
    staged = weights_bytes(point(model.name, layout=Layout(pipeline=2)))
    assert staged == pytest.approx(2 * (parameters.layers * 31 / 61 + parameters.head), rel=0.001)


def test_latent_attention_keeps_its_low_rank_projections_whole_on_every_gpu() -> None:
    """DeepSeek-V3: the projections down to queries' and keys' ranks are not shared out."""
    down = 61 * 7168 * (1536 + 512 + 64)
    one, eight = (weights_bytes(point("deepseek-ai/DeepSeek-V3", tensor=tensor)) for tensor in (1, 8))
    routers_and_norms = 58 * 256 * 7168 * 2 + 61 * 2 * 7168 * 2
    assert eight - one / 8 == pytest.approx((down + routers_and_norms) * 7 / 8, rel=0.05)


def test_experts_are_spread_and_attention_copied_with_attention_data_parallelism() -> None:
    model = shape("deepseek-ai/DeepSeek-V3")
    spread = point(model.name, layout=Layout(tensor=1, data=8, expert=8))
    experts = 58 * (256 // 8) * 3 * 7168 * 2048
    others = model_parameters(model).total - 58 * 256 * 3 * 7168 * 2048
    assert weights_bytes(spread) == pytest.approx(experts + others, rel=0.06)
    assert weights_bytes(replace(spread, engine="sglang")) < weights_bytes(spread)


def test_experts_split_over_gpus_take_as_much_as_experts_spread_over_them() -> None:
    split = point("Qwen/Qwen3-235B-A22B", layout=Layout(tensor=8))
    spread = point("Qwen/Qwen3-235B-A22B", layout=Layout(tensor=8, expert=8))
    assert weights_bytes(split) == weights_bytes(spread)

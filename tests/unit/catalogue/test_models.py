"""The registry: parameter counts against published ones, and names as people write them."""

from __future__ import annotations

import pytest

from trimtab.catalogue.models import (
    MODELS,
    Block,
    Experts,
    GroupedQuery,
    Latent,
    Linear,
    ModelShape,
    find_model,
    layer_parameters,
    model_parameters,
)

# Numbers of parameters as the repositories' safetensors files sum up (Hugging Face model pages), or, where these
# carry draft layers for multi-token prediction besides, as the publisher's model card or paper states them.
PUBLISHED = {
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-4-Scout-17B-16E": 108_641_793_536,
    "meta-llama/Llama-4-Maverick-17B-128E": 401_583_781_376,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-Nemo-Base-2407": 12_247_782_400,
    "mistralai/Mistral-Small-24B-Base-2501": 23_572_403_200,
    "mistralai/Mistral-Large-Instruct-2407": 122_610_069_504,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "Qwen/Qwen2-7B": 7_615_616_512,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-72B-Instruct": 72_706_203_648,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "Qwen/Qwen3-Next-80B-A3B-Instruct": 80e9,  # model card
    "Qwen/Qwen3.5-35B-A3B": 35e9,  # model card, as the three below
    "Qwen/Qwen3.5-122B-A10B": 122e9,
    "Qwen/Qwen3.5-397B-A17B": 397e9,
    "deepseek-ai/DeepSeek-V2-Lite": 15_706_484_224,
    "deepseek-ai/DeepSeek-V2": 235_741_434_880,
    "deepseek-ai/DeepSeek-V3": 671e9,  # DeepSeek-V3 technical report (2024)
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-2-27b": 27_227_128_320,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-27b-it": 27_432_406_640,
    "openai/gpt-oss-20b": 20.91e9,  # OpenAI's model card (2025), table 1
    "openai/gpt-oss-120b": 116.83e9,
    "zai-org/GLM-4.5": 355e9,  # GLM-4.5 report (2025)
    "zai-org/GLM-4.5-Air": 106e9,
    "microsoft/phi-4": 14_659_507_200,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/Phi-3.5-MoE-instruct": 41_873_153_344,
    "MiniMaxAI/MiniMax-Text-01": 456e9,  # MiniMax-01 report (2025)
    "MiniMaxAI/MiniMax-M2": 228_703_644_928,
    "Deci/DeciLM-7B": 7_043_551_232,
    "EleutherAI/gpt-j-6b": 6_053_381_344,
    "facebook/opt-6.7b": 6_658_473_984,
    "bigscience/bloom-7b1": 7_069_016_064,
}

# Active parameters per token where a report states them without rounding to whole billions.
ACTIVE = {"openai/gpt-oss-20b": 3.61e9, "openai/gpt-oss-120b": 5.13e9, "deepseek-ai/DeepSeek-V3": 37e9}


def _known(name: str) -> ModelShape:
    shape = find_model(name)
    assert shape is not None, name
    return shape


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_the_number_of_parameters_is_the_published_one_within_one_per_cent(name: str, published: float) -> None:
    shape = _known(name)
    assert shape.name == name
    assert model_parameters(shape).total == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("name", "published"), ACTIVE.items())
def test_the_number_of_active_parameters_is_the_published_one(name: str, published: float) -> None:
    assert model_parameters(_known(name)).active == pytest.approx(published, rel=0.015)


@pytest.mark.parametrize("shape", MODELS, ids=lambda shape: shape.name)
def test_every_shape_is_whole(shape: ModelShape) -> None:
    """Heads divide, layers and sizes are positive, and the size in the name is the size of the shape."""
    assert shape.layers > 0 and shape.vocab > 1000 and shape.max_positions >= 2048
    for block in shape.blocks:
        attention = block.attention
        if isinstance(attention, GroupedQuery):
            assert attention.q_heads % attention.kv_heads == 0
        elif isinstance(attention, Linear):
            assert attention.v_heads % attention.k_heads == 0
    assert len({shape.name for shape in MODELS}) == len(MODELS)


@pytest.mark.parametrize(
    ("written", "name", "native"),
    [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B", "bf16"),
        ("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-70B", "bf16"),
        ("unsloth/Llama-3.3-70B-Instruct-bnb-4bit", "meta-llama/Llama-3.3-70B-Instruct", "int4_wo"),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "meta-llama/Llama-3.3-70B-Instruct", "fp8"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "meta-llama/Llama-3.1-8B", "int8_wo"),
        ("Qwen/Qwen3-8B-AWQ", "Qwen/Qwen3-8B", "int4_wo"),
        ("Qwen/Qwen3-32B-FP8", "Qwen/Qwen3-32B", "fp8_block"),
        ("nvidia/Qwen3-32B-NVFP4", "Qwen/Qwen3-32B", "nvfp4"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "Qwen/Qwen2.5-7B-Instruct", "int8_wo"),
        ("Qwen/Qwen2.5-72B", "Qwen/Qwen2.5-72B-Instruct", "bf16"),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", "Qwen/Qwen3-30B-A3B-Instruct-2507", "bf16"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-R1", "fp8_block"),
        ("unsloth/DeepSeek-R1-BF16", "deepseek-ai/DeepSeek-R1", "bf16"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "Qwen/Qwen2.5-32B-Instruct", "bf16"),
        ("moonshotai/Kimi-K2-Thinking", "moonshotai/Kimi-K2-Thinking", "bf16"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-v0.1", "bf16"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Mistral-7B-v0.3", "bf16"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "meta-llama/Llama-4-Scout-17B-16E", "bf16"),
        ("/models/gemma-3-27b-it/", "google/gemma-3-27b-it", "bf16"),
        ("GPT-OSS-120B", "openai/gpt-oss-120b", "bf16"),
    ],
)
def test_a_model_is_found_however_its_name_is_written(written: str, name: str, native: str) -> None:
    shape = _known(written)
    assert (shape.name, shape.native) == (name, native)


def test_experts_of_some_models_have_a_format_of_their_own() -> None:
    assert _known("openai/gpt-oss-20b").native_experts == "mxfp4"
    assert _known("moonshotai/Kimi-K2.5").native_experts == "int4_wo"
    reasoner = _known("nvidia/DeepSeek-R1-NVFP4")
    assert (reasoner.native, reasoner.native_experts) == ("bf16", "nvfp4")


@pytest.mark.parametrize("written", ["", "acme/private-7b", "Qwen/Qwen3-8B-GGUF", "Qwen/Qwen9-8B", "llama"])
def test_what_the_registry_does_not_have_is_not_found(written: str) -> None:
    assert find_model(written) is None


def test_one_layer_counts_each_kind_of_matrix() -> None:
    """By hand: Mixtral 8x7B, layer by layer (Jiang et al., 2024)."""
    (block,) = _known("mistralai/Mixtral-8x7B-v0.1").blocks
    layer = layer_parameters(block, 4096)
    assert layer.attention == 4096 * (4096 + 1024 + 1024) + 4096 * 4096
    assert layer.experts == 8 * 3 * 4096 * 14336
    assert layer.router == 4096 * 8
    assert layer.feed_forward == 0


def test_latent_attention_counts_its_low_rank_matrices() -> None:
    """By hand: DeepSeek-V3 (2024), section 4.2."""
    attention = next(
        b.attention for b in _known("deepseek-ai/DeepSeek-V3").blocks if isinstance(b.feed_forward, Experts)
    )
    assert isinstance(attention, Latent)
    block = Block(1, attention, Experts(experts=1, topk=1, intermediate=1))
    query = 7168 * 1536 + 1536 * 128 * 192
    key_value = 7168 * 576 + 512 * 128 * 256
    assert layer_parameters(block, 7168).attention == query + key_value + 128 * 128 * 7168


def test_draft_layers_and_tied_heads_are_not_counted_twice() -> None:
    parameters = model_parameters(_known("meta-llama/Llama-3.2-1B"))
    assert parameters.head == 0
    assert parameters.embedding == 128256 * 2048


# The models of the published measurements that the planner is calibrated on.
MEASURED = (
    "BAAI/Aquila-7B",
    "Deci/DeciLM-7B",
    "EleutherAI/gpt-j-6b",
    "MiniMaxAI/MiniMax-M2.5",
    "Qwen/Qwen1.5-7B",
    "Qwen/Qwen2-72B",
    "Qwen/Qwen2-7B",
    "Qwen/Qwen3-32B",
    "bigscience/bloom-7b1",
    "deepseek-ai/DeepSeek-R1",
    "deepseek-ai/DeepSeek-V3",
    "facebook/opt-6.7b",
    "huggyllama/llama-7b",
    "meta-llama/Llama-2-70b-hf",
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-3.1-70B",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Meta-Llama-3-70B",
    "meta-llama/Meta-Llama-3-8B",
    "mistralai/Mistral-7B-v0.1",
    "mistralai/Mixtral-8x7B-v0.1",
    "moonshotai/Kimi-K2.5",
    "nvidia/DeepSeek-R1-NVFP4",
    "nvidia/Qwen3-32B-NVFP4",
    "openai/gpt-oss-120b",
)


@pytest.mark.parametrize("name", MEASURED)
def test_every_measured_model_is_known(name: str) -> None:
    assert find_model(name) is not None

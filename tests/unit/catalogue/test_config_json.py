"""Shapes from config.json: published files give the registry's shapes, and bad files a sentence with the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.unit.catalogue.published_configs import CONFIGS
from trimtab.catalogue.models import ConfigError, Dense, GroupedQuery, find_model, read_config

LLAMA = CONFIGS["meta-llama/Llama-3.1-8B"]
MIXTRAL = CONFIGS["mistralai/Mixtral-8x7B-v0.1"]
DEEPSEEK = CONFIGS["deepseek-ai/DeepSeek-V3"]
HYBRID = CONFIGS["Qwen/Qwen3-Next-80B-A3B-Instruct"]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_file_gives_the_shape_of_the_registry(name: str) -> None:
    reading = read_config(CONFIGS[name], name=name)
    assert reading.shape == find_model(name)
    assert reading.notes == ()


@pytest.mark.parametrize("name", ["huggyllama/llama-7b", "Qwen/Qwen3-30B-A3B", "openai/gpt-oss-120b"])
def test_a_language_model_inside_a_multimodal_one_has_the_same_shape(name: str) -> None:
    outer = {"model_type": "new_vl", "text_config": CONFIGS[name]}
    assert read_config(outer, name=name).shape == find_model(name)


def test_an_unknown_type_is_read_by_the_usual_rules_and_says_so() -> None:
    reading = read_config(LLAMA | {"model_type": "acme", "sliding_window": 512}, name="acme/m")
    assert reading.shape == replace(read_config(LLAMA, name="acme/m").shape)
    model_type, window = reading.notes
    assert "model_type 'acme' is not known" in model_type
    assert "sliding_window does not say in which layers" in window


def test_an_unknown_type_that_does_not_say_whether_the_head_is_tied_is_sized_without() -> None:
    config = {key: value for key, value in LLAMA.items() if key != "tie_word_embeddings"}
    reading = read_config(config | {"model_type": "acme"}, name="acme/m")
    assert not reading.shape.tied_embeddings
    assert any("tie_word_embeddings" in note for note in reading.notes)


def test_a_vision_tower_with_other_fields_is_left_out_and_that_is_said() -> None:
    reading = read_config({"text_config": LLAMA, "vision_config": {"image_size": 448}}, name="acme/vl")
    assert reading.shape.other_parameters == 0
    assert "vision" in reading.notes[0]


def test_heads_that_differ_by_layer_count_as_many_in_every_layer() -> None:
    """DeciLM-7B: one, two or four by layer, which engines load as four."""
    config = LLAMA | {"num_key_value_heads_per_layer": [4, 4, 2, 1] * 8}
    (block,) = read_config(config, name="m").shape.blocks
    assert isinstance(block.attention, GroupedQuery) and block.attention.kv_heads == 4


@pytest.mark.parametrize(("kind", "fields"), [("gpt_bigcode", {}), ("falcon", {"num_kv_heads": 32})])
def test_multi_query_attention_has_one_key_head(kind: str, fields: Mapping[str, object]) -> None:
    config = {**LLAMA, "model_type": kind, "num_key_value_heads": None, "multi_query": True, **fields}
    (block,) = read_config(config, name="m").shape.blocks
    assert isinstance(block.attention, GroupedQuery) and block.attention.kv_heads == 1


def test_windows_begin_at_the_layer_that_the_file_names() -> None:
    """Qwen 2 with use_sliding_window: the layers from max_window_layers on."""
    config = CONFIGS["Qwen/Qwen2.5-7B-Instruct"] | {"use_sliding_window": True, "max_window_layers": 20}
    windows = {block.count: block.attention for block in read_config(config, name="m").shape.blocks}
    full, sliding = windows[20], windows[8]
    assert isinstance(full, GroupedQuery) and isinstance(sliding, GroupedQuery)
    assert (full.window, sliding.window) == (0, 131072)


@pytest.mark.parametrize(
    ("changes", "dense"),
    [
        ({"mlp_only_layers": [0, 5]}, 2),
        ({"decoder_sparse_step": 2}, 24),
        ({"decoder_sparse_step": None, "first_k_dense_replace": 3}, 3),
        ({"decoder_sparse_step": None, "mlp_layer_types": ["dense"] + ["sparse"] * 47}, 1),
    ],
)
def test_some_layers_of_a_mixture_are_dense(changes: Mapping[str, object], dense: int) -> None:
    shape = read_config({**CONFIGS["Qwen/Qwen3-30B-A3B"], **changes}, name="m").shape
    assert sum(block.count for block in shape.blocks if isinstance(block.feed_forward, Dense)) == dense


@pytest.mark.parametrize(
    ("quantization", "formats"),
    [
        ({"quant_method": "fp8"}, ("fp8", "")),
        ({"quant_method": "fbgemm_fp8"}, ("fp8", "")),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, ("fp8_block", "")),
        ({"quant_method": "awq", "bits": 4}, ("int4_wo", "")),
        ({"quant_method": "gptq", "bits": 8}, ("int8_wo", "")),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ("int4_wo", "")),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, ("nvfp4", "")),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["model.layers.*.self_attn*"]},
            ("bf16", "nvfp4"),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
            },
            ("fp8", ""),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
                "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
            },
            ("bf16", "int4_wo"),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}},
            },
            ("nvfp4", ""),
        ),
    ],
)
def test_the_format_of_the_weights_is_that_of_the_quantization(
    quantization: Mapping[str, object], formats: tuple[str, str]
) -> None:
    shape = read_config(LLAMA | {"quantization_config": quantization}, name="m").shape
    assert (shape.native, shape.native_experts) == formats


@pytest.mark.parametrize(
    ("base", "changes", "field"),
    [
        (LLAMA, {"model_type": None}, "model_type"),
        (LLAMA, {"hidden_size": None}, "hidden_size"),
        (LLAMA, {"hidden_size": 0}, "hidden_size"),
        (LLAMA, {"hidden_size": -4096}, "hidden_size"),
        (LLAMA, {"hidden_size": "4096"}, "hidden_size"),
        (LLAMA, {"hidden_size": True}, "hidden_size"),
        (LLAMA, {"hidden_size": 10**9}, "hidden_size"),
        (LLAMA, {"hidden_size": 4097}, "num_attention_heads"),
        (LLAMA, {"num_hidden_layers": 10**6}, "num_hidden_layers"),
        (LLAMA, {"num_key_value_heads": 5}, "num_key_value_heads"),
        (LLAMA, {"intermediate_size": None}, "intermediate_size"),
        (LLAMA, {"vocab_size": None}, "vocab_size"),
        (LLAMA, {"max_position_embeddings": 1 << 40}, "max_position_embeddings"),
        (LLAMA, {"layer_types": ["full_attention"] * 31}, "layer_types"),
        (LLAMA, {"layer_types": "full_attention"}, "layer_types"),
        (LLAMA, {"layer_types": ["sliding_attention"] * 32}, "sliding_window"),
        (LLAMA, {"layer_types": ["mamba"] * 32}, "layer_types"),
        (LLAMA, {"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        (LLAMA, {"model_type": "mamba2"}, "model_type"),
        (LLAMA, {"is_encoder_decoder": True}, "is_encoder_decoder"),
        (LLAMA, {"num_kv_shared_layers": 10}, "num_kv_shared_layers"),
        (LLAMA, {"quantization_config": "fp8"}, "quantization_config"),
        (LLAMA, {"quantization_config": {"quant_method": "magic"}}, "quantization_config.quant_method"),
        (LLAMA, {"quantization_config": {"quant_method": "gptq", "bits": 3}}, "quantization_config.bits"),
        (LLAMA, {"quantization_config": {"quant_method": "modelopt"}}, "quantization_config.quant_algo"),
        (LLAMA, {"quantization_config": {"quant_method": "compressed-tensors"}}, "quantization_config.config_groups"),
        (MIXTRAL, {"num_experts_per_tok": None}, "num_experts_per_tok"),
        (MIXTRAL, {"num_experts_per_tok": 9}, "num_experts_per_tok"),
        (MIXTRAL, {"mlp_only_layers": "all"}, "mlp_only_layers"),
        (DEEPSEEK, {"v_head_dim": None}, "v_head_dim"),
        (HYBRID, {"linear_num_value_heads": None}, "linear_num_value_heads"),
        (HYBRID, {"linear_num_value_heads": 24}, "linear_num_value_heads"),
    ],
)
def test_a_bad_file_gets_a_sentence_with_the_field_and_the_way_out(
    base: Mapping[str, object], changes: Mapping[str, object], field: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({**base, **changes}, name="m")
    assert raised.value.field == field
    problem, way_out = str(raised.value).rstrip(".").split(". ", 1)
    assert problem.startswith(f"config.json: {field} ")
    assert way_out


def test_the_field_of_a_nested_model_is_named_with_its_path() -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({"text_config": {**LLAMA, "vocab_size": None}}, name="m")
    assert raised.value.field == "text_config.vocab_size"

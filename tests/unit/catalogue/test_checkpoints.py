"""What the name of a checkpoint says about its quantization."""

from __future__ import annotations

import pytest

from trimtab.catalogue import quantization_named_in
from trimtab.catalogue.checkpoints import format_named_in, without_quantization


@pytest.mark.parametrize(
    ("source", "method"),
    [
        ("Qwen/Qwen3-8B-AWQ", "awq"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq"),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "fp8"),
        ("nvidia/Llama-3.1-8B-Instruct-NVFP4", "modelopt_fp4"),
        ("nvidia/DeepSeek-R1-0528-FP4-v2", "modelopt_fp4"),
        ("RedHatAI/Qwen3-8B-quantized.w4a16", "compressed-tensors"),
        ("/models/gptq/llama-bf16/", None),
        ("meta-llama/Llama-3.1-8B-Instruct", None),
        ("org/fp8less-model", None),
    ],
)
def test_a_method_is_a_whole_word_of_the_models_own_name(source: str, method: str | None) -> None:
    assert quantization_named_in(source) == method


@pytest.mark.parametrize(
    ("source", "fmt", "rest"),
    [
        ("Qwen/Qwen3-8B-AWQ", "int4_wo", "qwen3-8b"),
        ("Qwen/Qwen3-8B-FP8", "fp8_block", "qwen3-8b"),
        ("RedHatAI/Qwen3-8B-FP8-dynamic", "fp8", "qwen3-8b"),
        ("RedHatAI/Qwen3-8B-FP8-BLOCK", "fp8_block", "qwen3-8b"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "int8_wo", "qwen2.5-7b-instruct"),
        ("RedHatAI/Meta-Llama-3.1-8B-quantized.w8a8", "int8_wo", "meta-llama-3.1-8b"),
        ("deepseek-ai/DeepSeek-V2", None, "deepseek-v2"),
        ("nvidia/DeepSeek-R1-0528-FP4-v2", "nvfp4", "deepseek-r1-0528"),
    ],
)
def test_a_format_is_read_from_the_name_and_the_rest_is_the_model(source: str, fmt: str | None, rest: str) -> None:
    assert format_named_in(source) == fmt
    assert without_quantization(source) == rest

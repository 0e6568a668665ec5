"""What the name of a checkpoint says about its quantization."""

from __future__ import annotations

import pytest

from trimtab.catalogue import quantization_named_in


@pytest.mark.parametrize(
    ("source", "method"),
    [
        ("Qwen/Qwen3-8B-AWQ", "awq"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq"),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "fp8"),
        ("nvidia/Llama-3.1-8B-Instruct-NVFP4", "modelopt_fp4"),
        ("RedHatAI/Qwen3-8B-quantized.w4a16", "compressed-tensors"),
        ("/models/gptq/llama-bf16/", None),
        ("meta-llama/Llama-3.1-8B-Instruct", None),
        ("org/fp8less-model", None),
    ],
)
def test_a_method_is_a_whole_word_of_the_models_own_name(source: str, method: str | None) -> None:
    assert quantization_named_in(source) == method

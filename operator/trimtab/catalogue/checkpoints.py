"""What the name of a checkpoint says about it. Publishers of quantized weights put the method into the name."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Final

# The methods as vLLM's option --quantization names them, by the words that stand for them in names on the hub.
_METHODS = {
    "awq": "awq",
    "gptq": "gptq",
    "fp8": "fp8",
    "nvfp4": "modelopt_fp4",
    "fp4": "modelopt_fp4",
    "mxfp4": "mxfp4",
    "gguf": "gguf",
    "bnb": "bitsandbytes",
    "bitsandbytes": "bitsandbytes",
    "w4a16": "compressed-tensors",
    "w8a8": "compressed-tensors",
    "w8a16": "compressed-tensors",
    "int4": "int4",
    "int8": "int8",
}

# The formats of matrices in memory, as `ServingPoint` names them. int8 with and without int8 activations are one.
_FORMATS: Final = {
    "awq": "int4_wo",
    "gptq": "int4_wo",
    "w4a16": "int4_wo",
    "int4": "int4_wo",
    "4bit": "int4_wo",
    "bnb": "int4_wo",
    "w8a8": "int8_wo",
    "w8a16": "int8_wo",
    "int8": "int8_wo",
    "8bit": "int8_wo",
    "fp8": "fp8",
    "nvfp4": "nvfp4",
    "fp4": "nvfp4",
    "mxfp4": "mxfp4",
    "bf16": "bf16",
}

# These publish fp8 weights with one scale per 128 x 128 elements; others with one per matrix or row.
_BLOCK_PUBLISHERS: Final = frozenset({"qwen", "deepseek-ai", "minimaxai", "moonshotai"})


def quantization_named_in(source: str) -> str | None:
    """The quantization method that a model's name or path says, or None: `Qwen/Qwen3-8B-AWQ` is awq."""
    return next((_METHODS[word] for word in _words(source) if word in _METHODS), None)


def format_named_in(source: str) -> str | None:
    """The format of the weights that the name says, in the words of `ServingPoint`, or None where it says none.

    `Qwen/Qwen3-8B-AWQ` is int4_wo, `Qwen/Qwen3-8B-FP8` fp8_block, `RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic` fp8.
    """
    words = _words(source)
    # GPTQ exists with 8 bits: the number of bits outweighs the method.
    found = [_FORMATS[word] for word in words if word in _FORMATS]
    best = next((fmt for fmt in found if fmt.startswith("int8")), found[0] if found else None)
    if best == "fp8" and ("block" in words or source.split("/")[0].lower() in _BLOCK_PUBLISHERS):
        return "fp8_block"
    return best


def without_quantization(source: str) -> str:
    """The name's last part in lower case, words joined by dashes, up to the first that speaks of a quantization."""
    stop = {*_METHODS, *_FORMATS, "quantized", "mlx"}
    return "-".join(takewhile(lambda word: word not in stop, _words(source)))


def _words(source: str) -> list[str]:
    """Lower case; a dot parts words except between digits, where it belongs to a version."""
    name = source.strip().rstrip("/").rsplit("/", 1)[-1].lower()
    return [word for word in re.split(r"[^a-z0-9.]+|(?<!\d)\.|\.(?!\d)", name) if word]

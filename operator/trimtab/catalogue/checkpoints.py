"""What the name of a checkpoint says about it. Publishers of quantized weights put the method into the name."""

from __future__ import annotations

import re

# The methods as vLLM's option --quantization names them, by the words that stand for them in names on the hub.
_METHODS = {
    "awq": "awq",
    "gptq": "gptq",
    "fp8": "fp8",
    "nvfp4": "modelopt_fp4",
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


def quantization_named_in(source: str) -> str | None:
    """The quantization method that a model's name or path says, or None: `Qwen/Qwen3-8B-AWQ` is awq."""
    words = re.split(r"[^a-z0-9]+", source.rstrip("/").rsplit("/", 1)[-1].lower())
    return next((_METHODS[word] for word in words if word in _METHODS), None)

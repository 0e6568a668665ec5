"""Bytes per element of each format of weights and of the KV cache, with the scales that belong to it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

BF16: Final = 2.0

# Blocks of elements that share a scale, and the scale's bytes:
#   fp8        one float32 per row of at least a thousand elements: counted as nothing
#   fp8_block  one float32 per 128 x 128 (DeepSeek-V3, 2024)
#   nvfp4      one fp8 number per 16 (NVIDIA, "Introducing NVFP4", 2025)
#   mxfp4      one exponent byte per 32 (OCP Microscaling Formats 1.0, 2023)
#   int8_wo    one bf16 number per 128
#   int4_wo    one bf16 number and a zero point of four bits per 128 (AWQ, Lin et al., 2023; GPTQ's usual group)
WEIGHTS: Final = MappingProxyType(
    {
        "bf16": BF16,
        "fp8": 1.0,
        "fp8_block": 1.0 + 4 / (128 * 128),
        "nvfp4": 0.5 + 1 / 16,
        "mxfp4": 0.5 + 1 / 32,
        "int8_wo": 1.0 + 2 / 128,
        "int4_wo": 0.5 + 2.5 / 128,
    }
)

KV_CACHE: Final = MappingProxyType({"bf16": 2, "fp8": 1})

"""What engines do by version, as far as times depend on it."""

from __future__ import annotations

import re
from typing import Final

# First versions that schedule the next step while the GPU works: vLLM 0.14 (asynchronous scheduling by default), SGLang
# 0.4 (overlap scheduler). TensorRT-LLM's overlap scheduler is older than its PyTorch backend.
_OVERLAPPED: Final = {"vllm": (0, 14, 0), "sglang": (0, 4, 0), "trtllm": (0, 0, 0)}
# First versions that fuse quantization and norms into their neighbours throughout.
_FUSED: Final = {"vllm": (0, 14, 0), "sglang": (0, 4, 0), "trtllm": (1, 1, 0)}


def _version(text: str) -> tuple[int, int, int] | None:
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def synchronous(engine: str, version: str) -> bool:
    """Whether the host plans a step while the GPU waits. A version that is not named is taken for a current one."""
    found = _version(version)
    return found is not None and found < _OVERLAPPED.get(engine, (0, 0, 0))


def overlapped(engine: str, version: str) -> bool:
    """Whether the version is known to plan steps while the GPU works."""
    found = _version(version)
    return found is not None and found >= _OVERLAPPED.get(engine, (0, 0, 0))


def unfused(engine: str, version: str) -> bool:
    """Whether quantization runs as kernels of its own, as in the kernel tables."""
    found = _version(version)
    return found is not None and found < _FUSED.get(engine, (0, 0, 0))


def early(engine: str, version: str) -> bool:
    """vLLM before its second engine core became the default (V1, 0.8.0)."""
    found = _version(version)
    return engine == "vllm" and found is not None and found < (0, 8, 0)

"""Measures what the engine's own matrix kernel reaches on this machine, with one thread on one core.

Runs with the engine's interpreter and prints one line of JSON: `bandwidth` in bytes/s, as one token reads weights that
are larger than the caches, and `bf16_flops` per second, as a prompt of 1,024 tokens computes. Nothing is served here.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from vllm import _custom_ops as ops

_OUTPUTS, _INPUTS, _MATRICES = 4096, 1024, 24  # 201 MB: several times the last cache
_PROMPT = 1024


def _seconds(call: Callable[[], None], least: float) -> float:
    """Median of repeats that take `least` seconds together."""
    call()
    times: list[float] = []
    while sum(times) < least or len(times) < 5:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    weights = [torch.randn(_OUTPUTS, _INPUTS).bfloat16() for _ in range(_MATRICES)]
    # As vllm/model_executor/layers/utils.py, dispatch_cpu_unquantized_gemm, packs the weights of a linear layer.
    packed = [ops.create_onednn_mm(weight.t(), 32) for weight in weights]

    def through(tokens: torch.Tensor) -> None:
        for handler in packed:
            ops.onednn_mm(handler, tokens, None)

    one, prompt = torch.randn(1, _INPUTS).bfloat16(), torch.randn(_PROMPT, _INPUTS).bfloat16()
    elements = _OUTPUTS * _INPUTS * _MATRICES
    found = {
        "bandwidth": 2.0 * elements / _seconds(lambda: through(one), 2.0),
        "bf16_flops": 2.0 * _PROMPT * elements / _seconds(lambda: through(prompt), 4.0),
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

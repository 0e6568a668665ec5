"""The share of memory that SGLang gives to weights and KV cache when nobody sets it.

Source: `server_args.py` of SGLang 0.5 (`mem_fraction_static`): what is left after a reserve for activations and CUDA
graphs, in MiB: 512, 1.5 per token of a prefill chunk, 2 per sequence of the largest graph, 128 per GPU of the
tensor-parallel and pipeline-parallel groups; at least 10 GiB on GPUs above 60 GiB.
"""

from __future__ import annotations

from typing import Final

from trimtab.plan.point import ServingPoint

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30

# Memory below which the largest CUDA graph has so many sequences: with fewer than four GPUs, with more.
_GRAPH_SEQUENCES: Final = ((20, 8, 8), (35, 24, 80), (60, 32, 160), (90, 256, 512))
_MOST_GRAPH_SEQUENCES: Final = 512


def static_fraction(point: ServingPoint, sequences: float, chunk: float) -> float:
    """Between 0.1 and 1; of a GPU whose memory is known. A device without known memory gets 0.9."""
    gpu, layout = point.device.gpu, point.layout
    if gpu is None:
        return 0.9
    graph = min(_graph_sequences(gpu.memory_bytes / _GIB, layout.tensor * layout.data), sequences)
    reserved = 512 + 1.5 * max(chunk, 2048) + 2 * graph + 128 * layout.tensor * layout.data * layout.pipeline
    if layout.data > 1:  # attention data parallelism gathers the batches of all groups
        reserved += 3 * graph * layout.data
    if gpu.memory_bytes > 60 * _GIB:
        reserved = max(reserved, 10 * 1024)
    return float(max(0.1, 1 - reserved * _MIB / gpu.memory_bytes))


def _graph_sequences(memory_gib: float, gpus: int) -> int:
    row = next((row for row in _GRAPH_SEQUENCES if memory_gib < row[0]), None)
    if row is None:
        return _MOST_GRAPH_SEQUENCES
    return row[1] if gpus < 4 else row[2]

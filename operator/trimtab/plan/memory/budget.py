"""How many bytes of a GPU an engine gives to the KV cache.

vLLM (`gpu_worker.py`): its share of all memory, less weights, the profiled peak of activations, what libraries hold
outside of PyTorch, and since 0.20 the CUDA graphs. SGLang: its static share, less weights. TensorRT-LLM: its share of
what is free after the model is loaded and a step was profiled. On a CPU, vLLM takes its share of the memory less what
its process holds.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from trimtab.catalogue.knob import parse_version
from trimtab.plan.memory.activations import activation_bytes, graph_bytes
from trimtab.plan.memory.cache import Numbers
from trimtab.plan.memory.limits import Limits
from trimtab.plan.point import ServingPoint

_MIB: Final = 1 << 20

# NCCL's buffers by GPUs in the group: `source_empirical_nccl_mem_bytes` of NVIDIA's tables (gpu_specs.csv).
_NCCL_2: Final = 342 * _MIB
_NCCL_MORE: Final = 392 * _MIB

# Workspaces of attention and GEMM libraries outside of activations: FlashInfer's 394 MiB in vLLM (its environment
# variable VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE) and as much again for the rest.
_WORKSPACES: Final = 788 * _MIB

# CUDA's context, which vLLM does not count as its own.
_CONTEXT: Final = 512 * _MIB

# Resident memory of vLLM's worker on a CPU without weights and cache: measured with 0.32 (1.8 GB with 1 GiB of cache
# and 153 MB of weights).
_CPU_RUNTIME: Final = 550 * _MIB

_GRAPHS_COUNTED_SINCE: Final = (0, 20, 0)


def usable_bytes(point: ServingPoint) -> int | None:
    """Memory of one device that engines see; None where it is not known."""
    if point.device.cpu:
        return None if point.device.processor is None else point.device.processor.memory_bytes
    return None if point.device.gpu is None else point.device.gpu.usable_bytes


def beside_cache_bytes(point: ServingPoint, limits: Limits) -> Numbers:
    """Activations, CUDA graphs, libraries and context: what a GPU holds beside weights and cache."""
    return (
        activation_bytes(point, limits.step_tokens, limits.sequences)
        + graph_bytes(point, limits.sequences)
        + _runtime(point)
    )


def cache_budget(point: ServingPoint, weights: float, usable: float | None, limits: Limits) -> Numbers:
    """Bytes per GPU for the KV cache, below zero where weights alone are too many.

    A fixed size that is asked for holds whatever else needs; whether it fits is for the caller to see. `usable` may be
    None only then.
    """
    if point.kv_cache_bytes is not None:
        return np.full(_shape(limits), float(point.kv_cache_bytes))
    if usable is None:
        raise ValueError("the memory of the device is not known")
    activations = activation_bytes(point, limits.step_tokens, limits.sequences)
    if point.device.cpu:
        return limits.utilization * usable - weights - _CPU_RUNTIME - activations
    match point.engine:
        case "sglang":
            return np.broadcast_to(limits.utilization * usable - weights - _runtime(point), _shape(limits))
        case "trtllm":
            return limits.utilization * (usable - weights - activations - _runtime(point))
        case _:
            graphs = graph_bytes(point, limits.sequences) if _counts_graphs(point.version) else 0.0
            return limits.utilization * usable - weights - activations - _libraries(point) - graphs


def _counts_graphs(version: str) -> bool:
    parsed = parse_version(version)
    return parsed is None or parsed >= _GRAPHS_COUNTED_SINCE


def _libraries(point: ServingPoint) -> int:
    layout = point.layout
    linked = layout.tensor * layout.data * layout.pipeline
    nccl = 0 if linked == 1 else _NCCL_2 if linked == 2 else _NCCL_MORE
    return _WORKSPACES + nccl


def _runtime(point: ServingPoint) -> int:
    return _CPU_RUNTIME if point.device.cpu else _libraries(point) + _CONTEXT


def _shape(limits: Limits) -> tuple[int, ...]:
    return np.broadcast(limits.sequences, limits.step_tokens, limits.length, limits.utilization).shape

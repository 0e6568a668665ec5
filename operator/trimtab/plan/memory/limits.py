"""The limits of a configuration that memory depends on, as arrays, with the engines' own defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from trimtab.catalogue.engines import find_engine
from trimtab.plan.memory.cache import Numbers
from trimtab.plan.memory.sglang import static_fraction
from trimtab.plan.point import ServingPoint

# TensorRT-LLM 1.x: `max_batch_size`, `max_num_tokens` and `free_gpu_memory_fraction` of `llmapi/llm_args.py`.
_TRTLLM: Final = {"maxNumSeqs": 2048, "maxNumBatchedTokens": 8192, "gpuMemoryUtilizationPercent": 90}

# Where nothing bounds it: SGLang derives `max_running_requests` from its cache and takes 2,048 at least.
_UNLIMITED: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """One value, or one per configuration: arrays of one shape or of shapes that broadcast.

    `sequences` run at once at most, `step_tokens` in one step, `length` is the longest context in tokens,
    `utilization` the engine's share of memory (vLLM: of all; SGLang: for weights and cache; TensorRT-LLM: of what is
    free after loading).
    """

    sequences: Numbers
    step_tokens: Numbers
    length: Numbers
    utilization: Numbers


def limits_of(point: ServingPoint) -> Limits:
    """The point's limits; the engine's defaults where they are None."""
    step_tokens = float(point.max_num_batched_tokens or _default(point, "maxNumBatchedTokens") or _UNLIMITED)
    sequences = float(point.max_num_seqs or _default(point, "maxNumSeqs") or _UNLIMITED)
    return Limits(
        sequences=np.asarray(min(sequences, step_tokens)),
        step_tokens=np.asarray(step_tokens),
        length=np.asarray(float(point.max_model_len or point.model.max_positions)),
        utilization=np.asarray(_utilization(point, sequences, step_tokens)),
    )


def _utilization(point: ServingPoint, sequences: float, step_tokens: float) -> float:
    if point.memory_utilization is not None:
        return point.memory_utilization
    if point.engine == "sglang":
        return static_fraction(point, sequences, step_tokens)
    return (_default(point, "gpuMemoryUtilizationPercent") or 100) / 100


def _default(point: ServingPoint, knob: str) -> int | None:
    """What the engine uses where nothing is set; of the newest known version where the point's is not known."""
    if point.engine == "trtllm":
        return _TRTLLM[knob]
    engine = find_engine(point.engine)
    if engine is None:
        return None
    version = engine.version_or_newest(point.version)
    found = next((known for known in engine.all_knobs if known.name == knob), None)
    value = found.default(version, point.device) if found is not None else None
    return value if isinstance(value, int) else None

"""What people read in a predicted plan: titles, numbers, risks and what a change needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trimtab.model.config import KnobValue
from trimtab.model.wording import seconds
from trimtab.plan.context import Context
from trimtab.plan.search import Candidates

BASIS: Final = "performance model, corrected by what was measured"
_ALTERED: Final = (
    "Answers can change. They are compared with stable's before it is kept; where that cannot be done, "
    "a person must approve this plan."
)
_TITLES: Final[Mapping[str, str]] = {
    "maxNumSeqs": "run up to {} sequences at once",
    "maxNumBatchedTokens": "compute up to {} tokens in one step",
    "kvCacheDtype": "keep the KV cache in 8 bits ({})",
    "gpuMemoryUtilizationPercent": "let the engine take {} % of the GPU's memory",
    "tensorParallelSize": "split each layer over {} GPUs",
    "dataParallelSize": "run {} copies of the engine in a pod",
    "quantization": "quantize the weights ({})",
}
_RISKS: Final[Mapping[str, str]] = {
    "maxNumSeqs": "More sequences at once take more of the KV cache: longer requests than now can be preempted.",
    "maxNumBatchedTokens": "Larger steps make the others wait longer for a token, smaller ones a first token.",
    "kvCacheDtype": _ALTERED,
    "quantization": _ALTERED,
    "gpuMemoryUtilizationPercent": "With less memory left over, an unusually large request can exceed it.",
    "tensorParallelSize": "Slow links between GPUs undo the gain.",
    "dataParallelSize": "Each copy has a queue and a prefix cache of its own.",
}


def title(changes: Mapping[str, KnobValue]) -> str:
    """`Run up to 64 sequences at once and compute up to 4096 tokens in one step`."""
    text = " and ".join(_TITLES[knob].format(value) for knob, value in changes.items())
    return text[:1].upper() + text[1:]


def description(known: Candidates, old: int, new: int) -> str:
    """Predicted values before and after; of what is not served before, the values after alone."""
    parts = []
    for name, words in (("throughput", ""), ("ttft.mean", "first token after "), ("itl.mean", "tokens ")):
        values = known.metrics[name].median
        before, after = (_shown(name, float(values[row])) for row in (old, new))
        parts.append(f"{words}{after} instead of {before}")
    return f"Predicted per pod: {'; '.join(parts)}."


def risks(changes: Mapping[str, KnobValue]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_RISKS[knob] for knob in changes))


def prerequisites(context: Context, changes: Mapping[str, KnobValue]) -> tuple[str, ...]:
    found = []
    if {"tensorParallelSize", "dataParallelSize"} & set(changes):
        found.append(f"{context.request.gpus_per_pod} GPUs in the pod.")
    if "quantization" in changes:
        found.append("A checkpoint that is not quantized.")
    return tuple(found)


def _shown(name: str, value: float) -> str:
    if name == "throughput":
        return f"{value:.0f} tokens/s"
    if name == "itl.mean":
        return f"{value * 1e3:.1f} ms apart"
    return seconds(value)

"""Quantization: smaller weights, where the hardware computes with them and the model is not quantized already."""

from __future__ import annotations

from collections.abc import Iterator

from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.plan import Metric, Optimization, OptimizationType, Rejected
from trimtab.plan.context import Context
from trimtab.plan.rules import MEASURED, stated

_CAUSES = (
    BottleneckKind.DECODE_BOUND,
    BottleneckKind.HIGH_LATENCY,
    BottleneckKind.LOW_THROUGHPUT,
    BottleneckKind.MEMORY_PRESSURE,
    BottleneckKind.PREEMPTION_THRASH,
)
_FP8 = "Quantize the weights to fp8"
_INT8 = "Quantize the weights to int8"
_INT4 = "Quantize the weights to int4"


def optimize(context: Context) -> Iterator[Optimization | Rejected]:
    """fp8 at load time on GPUs that compute in it; what is measured against the others, as a reason against them."""
    causes = context.found(*_CAUSES)
    if not causes or "quantization" not in context.knobs:
        return
    present = context.request.model_quantization or context.value("quantization")
    if present:
        yield Rejected(_FP8, f"The model is quantized already ({present}).")
        return
    if context.device.cpu:
        yield from _on_cpu()
        return
    if not context.device.supports_fp8:
        yield Rejected(_FP8, f"{context.request.device} is not known to have fp8 matrix units.")
        yield Rejected(_INT4, "It needs a checkpoint quantized by AWQ or GPTQ, which a change of settings cannot make.")
        return
    basis = "half the bytes of the weights read per step (roofline), fp8 matrix units"
    yield context.optimization(
        OptimizationType.QUANTIZATION,
        title=_FP8,
        description="The engine converts the weights to fp8 while it loads them; scales are computed as it runs.",
        changes={"quantization": ("fp8", f"{context.request.device} computes in fp8, and the weights halve.")},
        effects=(
            stated(Metric.THROUGHPUT, 1.3, 1.1, 1.7, basis),
            stated(Metric.ITL, 0.77, 0.6, 0.95, basis),
            stated(Metric.TTFT, 0.85, 0.6, 1.0, basis),
            stated(Metric.E2E, 0.78, 0.6, 0.95, basis),
            stated(Metric.KV_CAPACITY, 1.2, 1.0, 2.5, "memory that the weights give back"),
        ),
        addresses=causes,
        risks=(
            "Answers can change. They are compared with stable's before it is kept; where that cannot be done, "
            "a person must approve this plan.",
        ),
        prerequisites=("A checkpoint that is not quantized.",),
    )


def _on_cpu() -> Iterator[Rejected]:
    yield Rejected(
        _INT8,
        "At load time it is 5 to 10 % slower; a W8A8 checkpoint gives 30 to 37 % more, but has to be made first"
        f" ({MEASURED}).",
    )
    yield Rejected(_INT4, f"Weight-only int4 gives 45 % fewer tokens per second ({MEASURED}).")
    yield Rejected(_FP8, f"The engine does not start with it on a CPU ({MEASURED}).")

"""Memory: a larger KV cache where there is room, and compiled instead of eager execution."""

from __future__ import annotations

from collections.abc import Iterator

from trimtab.catalogue import find_gpu
from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.plan import Metric, Optimization, OptimizationType, Rejected
from trimtab.model.wording import percent
from trimtab.plan.context import Context
from trimtab.plan.rules import MEASURED, stated

_MIB = 1 << 20
_PRESSURE = (BottleneckKind.MEMORY_PRESSURE, BottleneckKind.PREEMPTION_THRASH)
_SLOW = (
    BottleneckKind.QUEUE_BUILDUP,
    BottleneckKind.HIGH_LATENCY,
    BottleneckKind.LOW_THROUGHPUT,
    BottleneckKind.BATCH_SIZE_SUBOPTIMAL,
)
_LIMIT_FILL = 0.9  # of the container's memory limit
_GPU_MOST = 95  # percent
_TITLE = "Make the KV cache larger"


def optimize(context: Context) -> Iterator[Optimization | Rejected]:
    """KV cache size on CPU and GPU, compilation."""
    yield from _larger_cache_on_cpu(context)
    yield from _larger_cache_on_gpu(context)
    yield from _compiled(context)


def _larger_cache_on_cpu(context: Context) -> Iterator[Optimization | Rejected]:
    """Twice the cache, when what the container uses and the addition stay below 90 % of its limit."""
    causes, request, load = context.found(*_PRESSURE), context.request, context.workload
    if not causes or not context.device.cpu or "kvCacheMemoryMebibytes" not in context.knobs:
        return
    size = context.number("kvCacheMemoryMebibytes")
    if size is None:
        yield Rejected(_TITLE, "Its size is not set, so how much it may grow is not known.")
    elif request.memory_limit_bytes is None or load.memory_bytes is None:
        yield Rejected(_TITLE, "The container's memory limit or its use is not known.")
    elif load.memory_bytes + size * _MIB > _LIMIT_FILL * request.memory_limit_bytes:
        free = max(0.0, _LIMIT_FILL * request.memory_limit_bytes - load.memory_bytes) / _MIB
        yield Rejected(
            _TITLE, f"{size} MiB more do not fit: {free:.0f} MiB are free below {percent(_LIMIT_FILL)} of the limit."
        )
    else:
        yield _larger(context, causes, "kvCacheMemoryMebibytes", 2 * size, 2.0)


def _larger_cache_on_gpu(context: Context) -> Iterator[Optimization | Rejected]:
    """The memory share up to 95 %; what it gives depends on the weights, so the interval is wide."""
    causes, knob = context.found(*_PRESSURE), "gpuMemoryUtilizationPercent"
    if not causes or context.device.cpu or knob not in context.knobs:
        return
    share = context.number(knob)
    if context.number("kvCacheMemoryMebibytes") is not None:
        yield Rejected(_TITLE, "Its size is set by kvCacheMemoryMebibytes.")
    elif share is None:
        yield Rejected(_TITLE, "The engine computes its share of the memory itself.")
    elif share >= _GPU_MOST:
        yield Rejected(_TITLE, f"The engine takes {share} % of the GPU's memory already.")
    else:
        yield _larger(context, causes, knob, _GPU_MOST, 1.0 + (_GPU_MOST - share) / max(20.0, float(share)) * 2.0)


def _larger(
    context: Context, causes: tuple[BottleneckKind, ...], knob: str, value: int, capacity: float
) -> Optimization:
    usage = context.workload.kv_usage
    full = "Running requests are preempted" if usage is None else f"{percent(usage)} of the KV cache is used"
    speed = 1.0 + min(0.3, (capacity - 1.0) * 0.3)
    basis = f"fewer preemptions: 360 tokens per second with a full cache, 495 with room, {MEASURED}"
    return context.optimization(
        OptimizationType.MEMORY,
        title=_TITLE,
        description=f"{full}, and there is memory for about {capacity:.1f} times the tokens.",
        changes={knob: (value, f"{full}.")},
        effects=(
            stated(Metric.KV_CAPACITY, round(capacity, 3), 1.0, round(capacity * 1.5, 3), "memory for the cache"),
            stated(Metric.THROUGHPUT, round(speed, 3), 1.0, round(1.0 + (speed - 1.0) * 1.5, 3), basis),
            stated(Metric.TTFT, round(1.0 / speed, 3), round(0.5 / speed, 3), 1.0, basis),
        ),
        addresses=causes,
        risks=("With less memory left over, an unusually large request can exceed it.",),
    )


def _compiled(context: Context) -> Iterator[Optimization | Rejected]:
    """Measured: 631 tokens per second eager, 725 to 780 compiled; the start takes 42 to 59 s instead of 24 s."""
    causes = context.found(*_SLOW)
    eager, level = context.value("enforceEager") is True, context.number("optimizationLevel") == 0
    if not causes or not (eager or level):
        return
    knob, value = ("enforceEager", False) if eager else ("optimizationLevel", 2)
    basis = f"compiled against eager execution, {MEASURED}"
    known = find_gpu(context.request.device)
    further = "" if known is None else " On a GPU it also records CUDA graphs."
    yield context.optimization(
        OptimizationType.MEMORY,
        title="Compile the model",
        description=f"The engine runs eagerly, which saves start-up time and memory and slows every step.{further}",
        changes={knob: (value, "Every step is slower than it needs to be.")},
        effects=(
            stated(Metric.THROUGHPUT, 1.17, 1.08, 1.25, basis),
            stated(Metric.ITL, 0.87, 0.8, 0.95, basis),
            stated(Metric.E2E, 0.87, 0.8, 0.95, basis),
        ),
        addresses=causes,
        risks=("The start takes about twice as long.", "Compilation and its graphs take memory."),
    )

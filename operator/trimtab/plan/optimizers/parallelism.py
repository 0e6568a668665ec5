"""Parallelism: use the GPUs that a pod has; more GPUs or replicas are for a person to decide."""

from __future__ import annotations

from collections.abc import Iterator

from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.plan import Metric, Optimization, OptimizationType, Rejected
from trimtab.plan.context import Context
from trimtab.plan.rules import power_of_two_at_most, stated

_SLOW = (
    BottleneckKind.HIGH_LATENCY,
    BottleneckKind.LOW_THROUGHPUT,
    BottleneckKind.MEMORY_PRESSURE,
    BottleneckKind.PREEMPTION_THRASH,
    BottleneckKind.QUEUE_BUILDUP,
)
_TITLE = "Spread each layer over the pod's GPUs"
# Of perfect scaling: the collectives between layers take the rest (NVLink; Megatron-LM: Shoeybi et al., 2019).
_EFFICIENCY = 0.75


def optimize(context: Context) -> Iterator[Optimization | Rejected]:
    """Tensor parallelism over GPUs that are paid for and idle."""
    causes = context.found(*_SLOW)
    if not causes:
        return
    sizes = [context.number(f"{kind}ParallelSize") or 1 for kind in ("tensor", "pipeline", "data")]
    used, gpus = sizes[0] * sizes[1] * sizes[2], context.request.gpus_per_pod
    if context.device.cpu:
        return
    if gpus <= used:
        yield Rejected(_TITLE, f"The engine uses {used} of the pod's {gpus} GPUs; more GPUs are for a person to grant.")
        return
    target = sizes[0] * power_of_two_at_most(gpus / used)
    if target == sizes[0]:
        yield Rejected(_TITLE, f"The pod's {gpus} GPUs are no power-of-two multiple of the {used} in use.")
        return
    speed = 1.0 + (target / sizes[0] - 1.0) * _EFFICIENCY
    basis = "tensor parallelism at 75 % of perfect scaling"
    yield context.optimization(
        OptimizationType.PARALLELISM,
        title=_TITLE,
        description=f"{used} of the pod's {gpus} GPUs are used.",
        changes={"tensorParallelSize": (target, f"{gpus - used} GPUs of the pod are idle.")},
        effects=(
            stated(Metric.THROUGHPUT, round(speed, 3), 1.0, round(target / sizes[0] * 1.1, 3), basis),
            stated(Metric.ITL, round(1.0 / speed, 3), round(sizes[0] / target, 3), 1.05, basis),
            stated(Metric.TTFT, round(1.0 / speed, 3), round(sizes[0] / target, 3), 1.05, basis),
            stated(Metric.E2E, round(1.0 / speed, 3), round(sizes[0] / target, 3), 1.05, basis),
            stated(Metric.KV_CAPACITY, float(target / sizes[0]), 1.0, target / sizes[0] * 1.5, "memory of all GPUs"),
        ),
        addresses=causes,
        risks=("The attention heads must divide by the number of GPUs.", "Slow links between GPUs undo the gain."),
        prerequisites=(f"{gpus} GPUs in the pod, joined by a fast link.",),
    )

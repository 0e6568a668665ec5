"""Can the objective be reached at all? The performance model answers, where it knows the model's shape and the GPU.

A request that is alone on the engine is as fast as it gets, so what the model forecasts for one client, at the lower
end of its interval, over every layout of the pod's GPUs, is what no configuration stays below.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trimtab.catalogue.models.shape import ModelShape
from trimtab.model.plan import NoPlan
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget
from trimtab.model.wording import number, seconds
from trimtab.plan.context import Context
from trimtab.plan.memory import DoesNotFit, fit
from trimtab.plan.modelled.subject import ENGINES
from trimtab.plan.performance import Forecast, forecast
from trimtab.plan.point import Layout, ServingPoint, Traffic


def infeasible(context: Context) -> NoPlan | None:
    """The violated targets that no configuration reaches, each with the nearest value; None when there is none, or
    when nothing can be said.
    """
    load = context.workload
    violated = [state.target for state in context.request.health.targets if state.met is False]
    points = _points(context)
    if not violated or not points or not load.prompt or not load.output:
        return None
    alone = Traffic(prompt=max(1.0, load.prompt), output=max(1.0, load.output), concurrency=1.0)
    found = forecast(points, [alone] * len(points))
    beyond = [(target, least) for target in violated if (least := _least(found, target)) > target.seconds]
    if not beyond:
        return None
    told = ", ".join(f"{t.name} {seconds(t.seconds)} (the nearest is about {seconds(least)})" for t, least in beyond)
    lengths = f"{number(alone.prompt)} prompt and {number(alone.output)} output tokens"
    return NoPlan(
        Reason.INFEASIBLE_SLO,
        f"No configuration of {points[0].model.name} on {_hardware(context)} can reach {told}: a request of {lengths} "
        "needs as much when it is alone. Raise the target, or change the model, its format or the hardware.",
    )


def _points(context: Context) -> Sequence[ServingPoint]:
    """The engine's defaults in every tensor-parallel layout of the pod's GPUs; none where too little is known."""
    request, shape = context.request, context.request.model
    if shape is None or context.device.gpu is None or context.performs_as[0] not in ENGINES:
        return ()
    sizes = [size for size in (1, 2, 4, 8) if size <= max(1, request.gpus_per_pod)]
    points = (_point(context, shape, size) for size in sizes)
    return [point for point in points if not isinstance(fit(point), DoesNotFit)]


def _point(context: Context, shape: ModelShape, tensor: int) -> ServingPoint:
    engine, version = context.performs_as
    return ServingPoint(
        model=shape,
        device=context.device,
        engine=engine,
        version=version,
        layout=Layout(tensor=tensor),
        weights=shape.native,
        experts=shape.native_experts,
        max_model_len=context.number("maxModelLen"),
    )


def _least(found: Forecast, target: LatencyTarget) -> float:
    """Seconds: the smallest value of any point, at the lower end of the interval of 90 %."""
    first, between = found.ttft_range.low, found.tpot_range.low
    match target.metric:
        case Latency.TTFT:
            least = first
        case Latency.ITL:
            least = between
        case Latency.E2E:
            decode = found.e2e.mean - found.ttft.mean
            least = first + decode * between / found.tpot
    return float(np.min(least)) / 1e3


def _hardware(context: Context) -> str:
    gpu = context.device.gpu
    return f"{max(1, context.request.gpus_per_pod)} x {gpu.name if gpu is not None else 'GPU'}"

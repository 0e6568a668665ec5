"""What a configuration at work teaches the performance model: its errors there, as calibration keeps them.

Behind a queue, engines count times to the first token of requests that came when the queue was another, so there only
the gaps between tokens count, against the forecast for as many clients as run: the queue itself is arithmetic.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from trimtab.catalogue import find_engine
from trimtab.model.reading import Unknown
from trimtab.plan.calibration import Observation, State, empty, learned
from trimtab.plan.context import Context
from trimtab.plan.memory import DoesNotFit, fit
from trimtab.plan.modelled.subject import ENGINES, point_of, traffic_of
from trimtab.plan.modelled.weighed import share
from trimtab.plan.performance import forecast
from trimtab.plan.request import PlanRequest
from trimtab.plan.workload import read

_ENOUGH: Final = 30.0  # requests in the window: a mean of fewer is chance


def learn(request: PlanRequest) -> State | None:
    """`request.calibration` with what the stable revision of the request shows; None where that is nothing new."""
    seen = observation_of(request)
    return None if seen is None else learned(request.calibration or empty(), seen)


def observation_of(request: PlanRequest) -> Observation | None:
    """Predicted without correction beside measured; None where either is not to be had."""
    catalogue = find_engine(request.engine)
    if catalogue is None or request.model is None or catalogue.performs_as(request.version)[0] not in ENGINES:
        return None
    load = read(request.snapshot, request.stable)
    if isinstance(load, Unknown) or not load.itl or not load.request_rate:
        return None
    if load.request_rate * load.pods * request.snapshot.window < _ENOUGH:
        return None
    context = Context.of(request, catalogue, load)
    point = point_of(context, request.model) if context.device.gpu is not None else None
    if point is None or isinstance(fit(point), DoesNotFit):
        return None
    copies = context.number("dataParallelSize") or 1
    traffic = traffic_of(load, point, copies)
    if traffic is None:
        return None
    if traffic.concurrency is not None:
        traffic = replace(traffic, concurrency=max(1.0, load.running))
    queued = traffic.concurrency is not None and load.waiting > 0
    traffic = share(traffic, copies)
    found = forecast([point], [traffic])
    return Observation(
        point=point,
        traffic=traffic,
        predicted_tpot=float(found.tpot[0]),
        predicted_ttft=float(found.ttft.mean[0]),
        measured_tpot=load.itl * 1e3,
        measured_ttft=None if queued or not load.ttft else load.ttft * 1e3,
    )

"""What each layout does from one client to very many: the curves of the Pareto plot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from trimtab.plan.memory import DoesNotFit, fit
from trimtab.plan.paper.options import layouts, point_of
from trimtab.plan.paper.rejected import name_of
from trimtab.plan.paper.request import PaperRequest
from trimtab.plan.performance import forecast

CLIENTS: Final = tuple(2**power for power in range(11))


@dataclass(frozen=True, slots=True)
class Curve:
    """One entry per number of clients: output tokens per second of one user, and per GPU."""

    name: str
    speeds: tuple[float, ...]
    throughputs: tuple[float, ...]


def sweep(request: PaperRequest) -> tuple[Curve, ...]:
    """A curve for each layout and format that fits, with the engine's own limits, in a closed loop."""
    points = [
        point_of(request, layout, weights, cache)
        for layout in layouts(request)
        for weights in request.weights or ("native",)
        for cache in request.caches or ("native",)
    ]
    points = [point for point in points if not isinstance(fit(point), DoesNotFit)]
    if not points:
        return ()
    traffic = [replace(request.traffic, rate=None, concurrency=float(clients)) for clients in CLIENTS]
    found = forecast([p for p in points for _ in traffic], [t for _ in points for t in traffic])
    speeds = (1e3 / found.itl.mean).reshape(len(points), -1)
    throughputs = (found.output_tokens / found.gpus).reshape(len(points), -1)
    return tuple(
        Curve(
            f"{name_of(point.layout)}, {point.weights}, KV {point.kv_cache}",
            *(tuple(float(v) for v in np.asarray(values[row])) for values in (speeds, throughputs)),
        )
        for row, point in enumerate(points)
    )

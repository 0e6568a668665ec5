"""From a request to an answer: all options, their forecasts, the choice, and the steps that lead to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from trimtab.model.config import KnobValue
from trimtab.model.slo import LatencyTarget
from trimtab.model.wording import seconds
from trimtab.plan.memory import limits_of
from trimtab.plan.outlook import Outlook
from trimtab.plan.paper.answers import Infeasible, NothingFits, Option, PaperAnswer, PaperPlan
from trimtab.plan.paper.options import (
    Options,
    layout_knobs,
    native_formats,
    options,
    shared,
    smallest,
    why_nothing_fits,
)
from trimtab.plan.paper.rejected import rejected
from trimtab.plan.paper.request import PaperRequest
from trimtab.plan.paper.way import way
from trimtab.plan.point import ServingPoint
from trimtab.plan.request import Objective
from trimtab.plan.search.candidates import Floats
from trimtab.plan.search.pareto import pareto_front

_FRONT: Final = 24  # options shown, spread over the front
# Options whose objective is this close to the best, as a share, count as equal, and the next criterion decides; of the
# criteria after the first, more: no formats are changed for a few per cent.
_EQUAL: Final = 0.005
_ALIKE: Final = 0.03


def plan_on_paper(request: PaperRequest) -> PaperAnswer:
    """The best option that meets every target, or why there is none. The same request gives the same answer.

    Raises PaperError for a request that cannot be meant, and ValueError for a device whose rates are not known.
    """
    request = request.checked()
    found = options(request)
    if not found.count:
        return NothingFits(why_nothing_fits(request))
    outlook = Outlook.of(found.points, found.traffic, found.replicas)
    show = _shower(request, found, outlook)
    front = _front(outlook, show)
    meeting = outlook.meets(request.targets)
    if not meeting.any():
        return _infeasible(request, outlook, show, front)
    best = _best(request, found, outlook, meeting)
    start = _start(request)
    return PaperPlan(
        chosen=show(best),
        front=front,
        start=start,
        steps=way(request, start, show(best)) if start is not None else (),
        rejected=rejected(request, found, outlook, best),
        considered=found.count,
    )


def keys(objective: Objective, outlook: Outlook) -> tuple[Floats, ...]:
    """What counts, most important first, smaller is better; throughput and cost in an open loop differ by GPUs only."""
    total, each = -outlook.throughput, -outlook.throughput / outlook.gpus
    speed = outlook.latencies["e2e.mean"]
    return {
        Objective.THROUGHPUT: (total, outlook.gpus, speed),
        Objective.COST: (each, speed, total),
        Objective.LATENCY: (speed, outlook.gpus, each),
    }[objective]


def _best(request: PaperRequest, found: Options, outlook: Outlook, allowed: np.ndarray) -> int:
    """Criterion by criterion: those that are about as good as the best one stay. Last, what departs least from the
    checkpoint's formats and from the engine's own limits.
    """
    left = np.flatnonzero(allowed)
    for position, key in enumerate(keys(request.objective, outlook)):
        best = key[left].min()
        left = left[key[left] <= best + (_ALIKE if position else _EQUAL) * abs(best)]
    return min((int(row) for row in left), key=lambda row: (_departure(found.points[row]), row))


def _departure(point: ServingPoint) -> tuple[int, float]:
    """How many formats differ from the checkpoint's, and how many doublings lie between its limits and the defaults."""
    own, experts = native_formats(point.model)
    formats = ((point.weights, own), (point.experts, experts), (point.kv_cache, "bf16"))
    usual = limits_of(replace(point, max_num_seqs=None, max_num_batched_tokens=None))
    pairs = ((point.max_num_seqs, usual.sequences), (point.max_num_batched_tokens, usual.step_tokens))
    doublings = sum(abs(math.log2(float(default) / value)) for value, default in pairs if value)
    return sum(here != there for here, there in formats), doublings


def _shower(request: PaperRequest, found: Options, outlook: Outlook) -> Callable[[int], Option]:
    meeting = outlook.meets(request.targets)

    def show(row: int) -> Option:
        point = found.points[row]
        config: dict[str, KnobValue] = {
            **layout_knobs(point.layout),
            "maxNumSeqs": point.max_num_seqs or 0,
            "maxNumBatchedTokens": point.max_num_batched_tokens or 0,
            "kvCacheDtype": "auto" if point.kv_cache == "bf16" else point.kv_cache,
        }
        price = None
        if request.price is not None and outlook.throughput[row] > 0:
            price = request.price * float(outlook.gpus[row]) / (float(outlook.throughput[row]) * 3600.0) * 1e6
        return Option(
            point=point,
            traffic=found.traffic[row],
            replicas=found.replicas[row],
            config=config,
            figures=outlook.figures(row),
            meets=bool(meeting[row]),
            price=price,
        )

    return show


def _front(outlook: Outlook, show: Callable[[int], Option]) -> tuple[Option, ...]:
    """Of what is served: the time of a whole request, queue included, against throughput per GPU."""
    served = outlook.served()
    costs = np.column_stack([outlook.latencies["e2e.mean"], -outlook.throughput / outlook.gpus])
    rows = pareto_front(np.where(served[:, None], costs, np.inf))
    if len(rows) > _FRONT:
        rows = [rows[int(position)] for position in np.linspace(0, len(rows) - 1, _FRONT)]
    return tuple(show(row) for row in reversed(rows))


def _start(request: PaperRequest) -> Option | None:
    """What one would begin with: the engine's defaults, and as many replicas of the smallest layout as fit."""
    point = smallest(request)
    if point is None:
        return None
    replicas = max(1, request.gpus // point.layout.gpus)
    traffic = shared(request.traffic, replicas)
    outlook = Outlook.of([point], [traffic], [replicas])
    return Option(
        point=point,
        traffic=traffic,
        replicas=replicas,
        config=layout_knobs(point.layout),
        figures=outlook.figures(0),
        meets=bool(outlook.meets(request.targets)[0]),
    )


def _infeasible(
    request: PaperRequest, outlook: Outlook, show: Callable[[int], Option], front: tuple[Option, ...]
) -> Infeasible:
    served = outlook.served()
    if not served.any():
        most = float(np.max(outlook.forecast.most_requests * outlook.replicas))
        nearest = show(int(np.argmax(outlook.forecast.most_requests * outlook.replicas)))
        message = (
            f"{request.traffic.rate or 0:g} requests per second saturate every option: the best one serves {most:.3g}. "
            f"Give more than {request.gpus} GPUs, allow a smaller format of weights, or lower the rate."
        )
        return Infeasible(message=message, nearest=nearest, front=front, considered=outlook.count)
    nearest = show(int(np.argmin(outlook.excess(request.targets))))
    reachable = {t.name: float(outlook.bounds[t.name][served].min()) for t in request.targets}
    return Infeasible(
        message=_why(request, nearest, reachable),
        nearest=nearest,
        reachable=reachable,
        front=front,
        considered=outlook.count,
    )


def _why(request: PaperRequest, nearest: Option, reachable: dict[str, float]) -> str:
    broken = [t for t in request.targets if nearest.figures.bounds[t.name] > t.seconds]
    values = ", ".join(f"{t.name} {seconds(nearest.figures.bounds[t.name])} ({_against(t)})" for t in broken)
    alone = ", ".join(f"{name} {seconds(value)}" for name, value in reachable.items())
    load = "rate" if request.traffic.rate is not None else "concurrency"
    return (
        f"No option with {request.gpus} GPUs or fewer meets the SLO. The nearest one reaches {values}; each alone "
        f"could come down to: {alone}. Raise the target, lower the {load}, or give more GPUs."
    )


def _against(target: LatencyTarget) -> str:
    return f"wanted {seconds(target.seconds)}"

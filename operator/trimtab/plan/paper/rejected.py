"""The best of what was not chosen, and the number that decided against each."""

from __future__ import annotations

import numpy as np

from trimtab.model.plan import Rejected
from trimtab.model.wording import seconds
from trimtab.plan.outlook import Outlook
from trimtab.plan.paper.options import Options
from trimtab.plan.paper.request import PaperRequest
from trimtab.plan.point import Layout


def rejected(request: PaperRequest, found: Options, outlook: Outlook, best: int) -> tuple[Rejected, ...]:
    """Per layout and formats other than the chosen ones the option that comes nearest, and why it is not it."""
    chosen = _kind(found, best)
    # What meets the SLO first, by throughput per GPU and then by speed; the rest by how far it is off.
    off = np.maximum(outlook.excess(request.targets), 1.0)
    each = np.round(outlook.throughput / outlook.gpus, 1)
    order = np.lexsort((outlook.latencies["e2e.mean"], -each, off))
    seen, answer = {chosen}, []
    for row in order:
        kind = _kind(found, int(row))
        if kind in seen:
            continue
        seen.add(kind)
        answer.append(Rejected(_title(found, int(row)), _reason(request, outlook, int(row), best)))
    return tuple(answer[:12])


def _kind(found: Options, row: int) -> tuple[object, ...]:
    point = found.points[row]
    return point.layout, point.weights, point.kv_cache


def _title(found: Options, row: int) -> str:
    point = found.points[row]
    return f"{found.replicas[row]} x {name_of(point.layout)}, weights {point.weights}, KV cache {point.kv_cache}"


def name_of(layout: Layout) -> str:
    """`TP4`, `TP2 PP2`, `TP1 DP8 EP8`."""
    sizes = (("TP", layout.tensor, 1), ("PP", layout.pipeline, 0), ("DP", layout.data, 0), ("EP", layout.expert, 0))
    return " ".join(f"{name}{size}" for name, size, always in sizes if always or size > 1)


def _reason(request: PaperRequest, outlook: Outlook, row: int, best: int) -> str:
    if not outlook.served()[row]:
        return f"Saturated: it serves {outlook.forecast.most_requests[row] * outlook.replicas[row]:.3g} requests/s."
    for target in request.targets:
        bound = float(outlook.bounds[target.name][row])
        if bound > target.seconds:
            return f"{target.name} may reach {seconds(bound)}, and {seconds(target.seconds)} is wanted."
    each = outlook.throughput / outlook.gpus
    numbers = f"{each[row]:.0f} tokens/s per GPU against {each[best]:.0f}"
    times = tuple(seconds(float(outlook.latencies["e2e.mean"][r])) for r in (row, best))
    return f"{numbers}, end to end {times[0]} against {times[1]}."

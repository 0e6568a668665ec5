"""The single optimizations that lead from the engine's defaults to the chosen option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from trimtab.model.config import KnobValue
from trimtab.model.plan import Effect, Metric
from trimtab.plan.memory import limits_of
from trimtab.plan.outlook import Outlook
from trimtab.plan.paper.answers import Option, Step
from trimtab.plan.paper.options import layout_knobs, shared
from trimtab.plan.paper.request import PaperRequest
from trimtab.plan.point import ServingPoint
from trimtab.plan.request import Objective
from trimtab.plan.search import Candidates, Goal, path, ratio

BASIS: Final = "performance model"
_METRICS: Final = {"throughput": Metric.THROUGHPUT, "ttft.mean": Metric.TTFT, "itl.mean": Metric.ITL}
_GROUPS: Final = {
    "Parallelism": ("layout", "replicas"),
    "Quantization": ("weights", "experts"),
    "KVCache": ("kv_cache",),
    "Batching": ("max_num_seqs", "max_num_batched_tokens"),
}


def way(request: PaperRequest, start: Option, chosen: Option) -> tuple[Step, ...]:
    """Steps from `start` to `chosen`, biggest gain first, each predicted after those before it."""
    begin, end = _fields(start), _fields(chosen)
    groups = [name for name, fields in _GROUPS.items() if any(begin[f] != end[f] for f in fields)]
    combos = [
        _mixed(begin, end, [g for bit, g in enumerate(groups) if row >> bit & 1]) for row in range(1 << len(groups))
    ]
    points = [_point(start.point, fields) for fields in combos]
    replicas = [int(str(fields["replicas"])) for fields in combos]
    outlook = Outlook.of(points, [shared(request.traffic, count) for count in replicas], replicas)
    # In bits, so that each group is a distance of one.
    features = np.array([[row >> bit & 1 for bit in range(len(groups))] for row in range(len(combos))], np.float64)
    candidates = outlook.candidates(features)
    goal = Goal(objective="throughput")
    if request.objective is Objective.LATENCY:
        goal = Goal(objective="itl.mean", maximise=False)
    rows = path(candidates, goal)
    steps = []
    for old, new in pairwise(rows):
        names = [group for bit, group in enumerate(groups) if (new ^ old) >> bit & 1]
        effects = (_effect(candidates, name, metric, old, new) for name, metric in _METRICS.items())
        stated = tuple(effect for effect in effects if effect is not None)
        steps.append(Step(" and ".join(names), _changes(combos[old], combos[new]), stated))
    return tuple(steps)


def _effect(candidates: Candidates, name: str, metric: Metric, old: int, new: int) -> Effect | None:
    """None where one of the two is saturated: there is no ratio then."""
    if not np.isfinite(candidates.metrics[name].mean[[old, new]]).all():
        return None
    found = ratio(candidates, name, old, new)
    return Effect(metric, round(found.value, 3), round(found.low, 3), round(found.high, 3), BASIS)


def _fields(option: Option) -> dict[str, object]:
    point, limits = option.point, limits_of(option.point)
    return {
        "layout": point.layout,
        "replicas": option.replicas,
        "weights": point.weights,
        "experts": point.experts,
        "kv_cache": point.kv_cache,
        "max_num_seqs": int(limits.sequences),
        "max_num_batched_tokens": int(limits.step_tokens),
    }


def _mixed(begin: Mapping[str, object], end: Mapping[str, object], groups: list[str]) -> dict[str, object]:
    changed = {field for group in groups for field in _GROUPS[group]}
    return {name: end[name] if name in changed else begin[name] for name in begin}


def _point(base: ServingPoint, fields: Mapping[str, object]) -> ServingPoint:
    return replace(base, **{name: value for name, value in fields.items() if name != "replicas"})  # type: ignore[arg-type]


def _changes(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, tuple[KnobValue, KnobValue]]:
    before, after = _knobs(old), _knobs(new)
    return {knob: (before[knob], value) for knob, value in after.items() if before[knob] != value}


def _knobs(fields: Mapping[str, object]) -> dict[str, KnobValue]:
    layout = fields["layout"]
    return {
        **layout_knobs(layout),  # type: ignore[arg-type]
        "replicas": int(str(fields["replicas"])),
        "weights": str(fields["weights"]),
        "kvCacheDtype": str(fields["kv_cache"]),
        "maxNumSeqs": int(str(fields["max_num_seqs"])),
        "maxNumBatchedTokens": int(str(fields["max_num_batched_tokens"])),
    }

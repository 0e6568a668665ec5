"""The single optimizations that lead from what runs to the chosen configuration, each predicted after those before."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

import numpy as np

from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.config import KnobValue
from trimtab.model.plan import Effect, Metric, Optimization, OptimizationType
from trimtab.plan.context import Context
from trimtab.plan.memory import Fits, fit
from trimtab.plan.modelled import words
from trimtab.plan.modelled.choices import Choices
from trimtab.plan.modelled.choose import Chosen, acceptable
from trimtab.plan.modelled.goal import metric_of, reachable
from trimtab.plan.modelled.subject import KNOBS
from trimtab.plan.modelled.weighed import Weighed
from trimtab.plan.search import Candidates, Goal, path, ratio
from trimtab.plan.search.candidates import Bools, Estimate
from trimtab.plan.workload import told

_METRICS: Final = {
    "throughput": Metric.THROUGHPUT,
    "ttft.mean": Metric.TTFT,
    "itl.mean": Metric.ITL,
    "e2e.mean": Metric.E2E,
}


def way(context: Context, found: Choices, weighed: Weighed, chosen: Chosen) -> tuple[Optimization, ...]:
    """One optimization per type of change, biggest gain first; what is safe only together is one."""
    changes = found.changes(chosen.row)
    groups = list(dict.fromkeys(KNOBS[knob] for knob in changes))
    rows = [_row(found, changes, groups, number) for number in range(1 << len(groups))]
    known = weighed.known
    steps = path(_of(known, rows, found.now), chosen.goal, _allowed(context, found, weighed, chosen.goal, rows))
    taken = [row for row in (rows[step] for step in steps) if row is not None]  # what would not start is passed over
    return tuple(_optimization(context, found, weighed, known, pair) for pair in pairwise(taken))


def improvement(weighed: Weighed, chosen: Chosen) -> Effect:
    """Of everything together, in the metric of the goal."""
    return _effect(weighed, chosen.goal.objective, metric_of(chosen.goal), weighed.seen[0].row, chosen.row)


def _row(found: Choices, changes: Mapping[str, KnobValue], groups: list[OptimizationType], number: int) -> int | None:
    """The configuration with the groups of the set bits changed; None where it would not start."""
    chosen = {group for bit, group in enumerate(groups) if number >> bit & 1}
    return found.space.row({**found.subject.values, **{k: v for k, v in changes.items() if KNOBS[k] in chosen}})


def _of(known: Candidates, rows: list[int | None], now: int) -> Candidates:
    at = np.array([now if row is None else row for row in rows])
    metrics = {name: Estimate(found.mean[at], found.sd[at]) for name, found in known.metrics.items()}
    return Candidates(known.features[at], metrics)


def _allowed(context: Context, found: Choices, weighed: Weighed, goal: Goal, rows: list[int | None]) -> Bools:
    """Steps on the way start, are not known as bad, and keep the limits or break none of them further than now."""
    kept, known = reachable(goal, weighed), weighed.known
    answer = np.zeros(len(rows), bool)
    for number, row in enumerate(rows):
        if row is None or not acceptable(context, found, row):
            continue
        means = [known.metrics[limit.metric].mean for limit in goal.limits]
        answer[number] = kept[row] or (weighed.served[row] and all(mean[row] <= mean[found.now] for mean in means))
    return answer


def _optimization(
    context: Context, found: Choices, weighed: Weighed, known: Candidates, rows: tuple[int, int]
) -> Optimization:
    old, new = rows
    before, after = found.space.config(old), found.space.config(new)
    changed = {knob: value for knob, value in after.items() if before[knob] != value}
    set_by = found.subject.limits.set(changed)
    restart = not all(context.is_live(knob) for knob in set_by)
    return context.optimization(
        KNOBS[next(iter(changed))],
        title=words.title(changed),
        description=words.description(known, old, new),
        changes={knob: (value, f"{told(context.workload)}.") for knob, value in set_by.items()},
        # Running pods keep the cache that they were started with.
        effects=(*_effects(found, weighed, old, new), *(_capacity(found, old, new) if restart else ())),
        addresses=context.found(*BottleneckKind),
        risks=words.risks(changed),
        prerequisites=words.prerequisites(context, changed),
    )


def _effects(found: Choices, weighed: Weighed, old: int, new: int) -> tuple[Effect, ...]:
    """Where both are served; while all that arrives is served, throughput follows the load and has no effect."""
    names = [name for name in _METRICS if name != "throughput" or found.subject.overloaded]
    finite = [n for n in names if np.isfinite(weighed.candidates.metrics[n].mean[[old, new]]).all()]
    return tuple(_effect(weighed, name, _METRICS[name], old, new) for name in finite)


def _effect(weighed: Weighed, name: str, metric: Metric, old: int, new: int) -> Effect:
    r = ratio(weighed.candidates, name, old, new, weighed.seen)
    return Effect(metric, round(r.value, 3), round(r.low, 3), round(r.high, 3), words.BASIS)


def _capacity(found: Choices, old: int, new: int) -> tuple[Effect, ...]:
    """Tokens that the caches of a pod hold, by the memory model."""
    held = []
    for row in (old, new):
        room = fit(found.points[row])
        held.append(room.kv_tokens * found.copies[row] if isinstance(room, Fits) else 0)
    if not all(held) or abs(held[1] / held[0] - 1.0) < 0.01:
        return ()
    share = round(held[1] / held[0], 3)
    return (Effect(Metric.KV_CAPACITY, share, round(share * 0.95, 3), round(share * 1.05, 3), "memory model"),)

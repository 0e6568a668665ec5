"""Several optimizations as one plan: their order, and the effect of the whole.

Ratios multiply, because each acts on what the one before has left, and are damped, because two changes that relieve the
same resource do not relieve it twice: the k-th best counts with the power 0.8^k. The product is then bound by what is
physically there: no more requests than want to run, each no faster than when it runs alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trimtab.model.plan import Effect, Effort, Metric, Optimization, OptimizationType
from trimtab.plan.context import Context
from trimtab.plan.rules import gain

_DAMPING = 0.8
_EFFORT = {Effort.LIVE: 0, Effort.RESTART: 1, Effort.NEW_ARTEFACT: 2}
# What gives room comes before what uses it.
_TYPE = {
    OptimizationType.MEMORY: 0,
    OptimizationType.KV_CACHE: 1,
    OptimizationType.BATCHING: 2,
    OptimizationType.PARALLELISM: 3,
    OptimizationType.QUANTIZATION: 4,
}


def ordered(optimizations: Iterable[Optimization]) -> tuple[Optimization, ...]:
    """Biggest impact first; then what cannot change outputs, what costs least, and what gives room to the next.

    Two that touch the same knob do not both fit: the later one is left out.
    """
    ranked = sorted(
        optimizations,
        key=lambda o: (-o.impact, o.alters_outputs, _EFFORT[o.effort], _TYPE[o.type], o.title),
    )
    kept: list[Optimization] = []
    touched: set[str] = set()
    for optimization in ranked:
        if touched.isdisjoint(optimization.as_changes):
            kept.append(optimization)
            touched.update(optimization.as_changes)
    return tuple(kept)


def combined(context: Context, optimizations: Sequence[Optimization], metric: Metric) -> Effect:
    """The effect of all of them on one metric; a ratio of 1 when none states one."""
    effects = [effect for step in optimizations for effect in step.effects if effect.metric is metric]
    effects.sort(key=gain, reverse=True)
    ratio, low, high = 1.0, 1.0, 1.0
    for position, effect in enumerate(effects):
        power = _DAMPING**position
        ratio, low, high = ratio * effect.ratio**power, low * effect.low**power, high * effect.high**power
    if metric is Metric.THROUGHPUT:
        ceiling = _throughput_ceiling(context, optimizations)
        ratio, low, high = min(ratio, ceiling), min(low, ceiling), min(high, ceiling)
    basis = "; ".join(dict.fromkeys(effect.basis for effect in effects)) or "no stated effect"
    return Effect(metric, round(ratio, 3), round(min(low, ratio), 3), round(max(high, ratio), 3), basis)


def _throughput_ceiling(context: Context, optimizations: Sequence[Optimization]) -> float:
    """All that want to run do, each as fast as alone, made faster by whatever shortens the step itself."""
    load, model = context.workload, context.batch_model()
    running = max(1.0, load.running)
    at_once = max(1.0, load.demand / running)
    alone = 1.0 if model is None or model.itl <= 0 else max(1.0, model.itl / model.itl_at(1.0))
    shorter = 1.0
    for step in optimizations:
        for effect in step.effects:
            if effect.metric is Metric.ITL and effect.ratio < 1.0:
                shorter /= effect.ratio
    # A request that computes fewer prompt tokens gives its slot back sooner: those effects are not bound by the step.
    freed = 1.0
    for step in optimizations:
        if step.type in (OptimizationType.KV_CACHE, OptimizationType.MEMORY):
            freed *= max((e.ratio for e in step.effects if e.metric is Metric.THROUGHPUT), default=1.0)
    return at_once * alone * shorter * max(1.0, freed)

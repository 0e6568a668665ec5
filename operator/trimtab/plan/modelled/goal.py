"""What a plan is for: the objective within the targets; where no configuration keeps them, the one furthest off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trimtab.model.bottleneck import TargetState
from trimtab.model.plan import Metric
from trimtab.model.reading import Known
from trimtab.model.slo import Latency, LatencyTarget
from trimtab.model.wording import seconds
from trimtab.plan.context import Context
from trimtab.plan.modelled.subject import Subject
from trimtab.plan.modelled.weighed import PERCENTILES, Weighed, medians
from trimtab.plan.request import Objective
from trimtab.plan.search import Goal, Limit
from trimtab.plan.search.acquire import safe
from trimtab.plan.search.candidates import Bools

METRICS = {Latency.TTFT: Metric.TTFT, Latency.ITL: Metric.ITL, Latency.E2E: Metric.E2E}


def goal_of(context: Context, subject: Subject) -> Goal | None:
    """The objective with every target as a limit. None where no configuration can make the objective better: while all
    that arrives is served, throughput follows the load.
    """
    limits = tuple(Limit(state.target.name, state.target.seconds) for state in _targets(context))
    least = context.request.min_improvement
    if context.request.objective is Objective.LATENCY:
        return Goal(objective="e2e.mean", maximise=False, limits=limits, min_improvement=least)
    if subject.overloaded:
        return Goal(objective="throughput", limits=limits, min_improvement=least)
    worst = _furthest_off(context)
    if worst is None:
        return None
    return Goal(objective=worst.target.name, maximise=False, limits=limits, min_improvement=least)


def relaxed(context: Context, goal: Goal) -> Goal | None:
    """Where nothing keeps every target: the one furthest off comes nearer, those that are kept stay so."""
    worst = _furthest_off(context)
    if worst is None:
        return None
    violated = {state.target.name for state in _targets(context) if state.met is not True}
    limits = tuple(limit for limit in goal.limits if limit.metric not in violated)
    return replace(goal, objective=worst.target.name, maximise=False, limits=limits)


def metric_of(goal: Goal) -> Metric:
    """The metric that the goal is stated in."""
    return (
        METRICS.get(Latency(goal.objective.split(".")[0]), Metric.E2E) if "." in goal.objective else Metric.THROUGHPUT
    )


def shortfall(context: Context, found: Weighed) -> str:
    """The targets that no allowed configuration is predicted to keep, each with the nearest value; "" where all are."""
    known = found.known
    told = []
    for state in _targets(context):
        goal = Goal(objective="throughput", limits=(Limit(state.target.name, state.target.seconds),))
        if (safe(known, goal) & found.served).any() or state.met is True:
            continue
        nearest = float(np.min(np.where(found.served, medians(known, state.target.name), np.inf)))
        if np.isfinite(nearest):
            told.append(_told(state.target, nearest))
    if not told:
        return ""
    return f"No allowed configuration is predicted to keep {' and '.join(told)}."


def reachable(goal: Goal, found: Weighed) -> Bools:
    """Rows that keep every limit with enough certainty, and serve the load."""
    return np.asarray(safe(found.known, goal) & found.served)


def _told(target: LatencyTarget, nearest: float) -> str:
    if nearest <= target.seconds:
        return f"{target.name} within {seconds(target.seconds)} for certain (the nearest is {seconds(nearest)} likely)"
    return f"{target.name} within {seconds(target.seconds)} (the nearest is about {seconds(nearest)})"


def _targets(context: Context) -> tuple[TargetState, ...]:
    return tuple(state for state in context.request.health.targets if state.target.percentile in PERCENTILES)


def _furthest_off(context: Context) -> TargetState | None:
    """Of the violated targets the one with the largest ratio of measured to wanted."""
    off = [
        (state.measured.value / state.target.seconds, state)
        for state in _targets(context)
        if state.met is False and isinstance(state.measured, Known)
    ]
    return max(off, key=lambda pair: pair[0])[1] if off else None

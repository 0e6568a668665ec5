"""A plan from the performance model: the objective first, then what comes nearest, outputs last of all altered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from trimtab.model.plan import Plan, Rejected
from trimtab.plan.assembled import MOST_REJECTED, assembled
from trimtab.plan.context import Context
from trimtab.plan.modelled.choices import BOLD, CAUTIOUS, Choices, choices
from trimtab.plan.modelled.choose import Chosen, choose, still_good
from trimtab.plan.modelled.goal import goal_of, relaxed, shortfall
from trimtab.plan.modelled.rejected import rejected
from trimtab.plan.modelled.subject import subject_of
from trimtab.plan.modelled.way import improvement, way
from trimtab.plan.modelled.weighed import Weighed, weigh
from trimtab.plan.search import Goal


@dataclass(frozen=True, slots=True)
class NothingBetter:
    """The model weighed every allowed configuration, and none is worth a trial. `shortfall`: targets out of reach."""

    message: str
    rejected: tuple[Rejected, ...] = ()
    shortfall: str = ""


Answer: TypeAlias = Plan | NothingBetter


def modelled(context: Context) -> Answer | None:
    """None where the model, the GPU or the engine is not known well enough, so that the documented rules answer."""
    subject = subject_of(context)
    if subject is None:
        return None
    goal = goal_of(context, subject)
    if goal is None:
        return NothingBetter("All that arrives is served and no target is violated, so throughput follows the load.")
    nothing = NothingBetter("")
    for altering in _altering(context.request.profile):
        found = choices(context, subject, altering=altering)
        weighed = weigh(context, found)
        missed = shortfall(context, weighed)
        for wanted in _goals(context, goal):
            chosen = choose(context, found, weighed, wanted)
            kept = _kept(context, found, weighed, wanted, chosen)
            if kept is not None:
                return kept
            if isinstance(chosen, Chosen):
                return _plan(context, found, weighed, chosen, missed)
            if not nothing.message:
                nothing = NothingBetter(chosen, rejected(found, weighed, goal, None)[:MOST_REJECTED], missed)
    return nothing


def _altering(profile: str) -> tuple[bool, ...]:
    """Whether knobs that alter outputs are weighed: by the bold at once, usually only where nothing else helps."""
    return {CAUTIOUS: (False,), BOLD: (True,)}.get(profile, (False, True))


def _goals(context: Context, goal: Goal) -> Iterator[Goal]:
    yield goal
    nearer = relaxed(context, goal)
    if nearer is not None:
        yield nearer


def _plan(context: Context, found: Choices, weighed: Weighed, chosen: Chosen, missed: str) -> Plan:
    steps = way(context, found, weighed, chosen)
    return assembled(
        context,
        steps,
        improvement=improvement(weighed, chosen),
        rejected=rejected(found, weighed, chosen.goal, chosen),
        estimated=False,
        shortfall=missed,
    )


def _kept(context: Context, found: Choices, weighed: Weighed, goal: Goal, chosen: Chosen | str) -> Plan | None:
    """The plan proposed last, while it starts here, its result is safe and about as good as the best one of now; where
    nothing is worth a trial any more, while half of what is asked for is left: figures near a limit move.
    """
    plan, request = context.request.plan, context.request
    if plan is None or plan.estimated or plan.start != request.config or plan.result in request.tried:
        return None
    if (plan.engine, plan.engine_version, plan.target) != (request.engine, request.version, request.target):
        return None
    if request.config.with_changes(plan.optimizations[0].as_changes) in request.tried:
        return None
    changes = found.subject.limits.read(request.config.changes_to(plan.result))
    if any(knob not in found.subject.values or value is None for knob, value in changes.items()):
        return None
    row = found.space.row({**found.subject.values, **changes})  # type: ignore[dict-item]
    best = chosen.row if isinstance(chosen, Chosen) else None
    return plan if row is not None and still_good(weighed, goal, row, best) else None

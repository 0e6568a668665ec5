"""The checks that every optimization passes before it may be proposed: each gives a reason against it, or None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from trimtab.model.plan import Optimization, Rejected
from trimtab.model.reading import Known
from trimtab.model.wording import better, percent, seconds
from trimtab.plan.context import LATENCY_OF, Context

Check: TypeAlias = Callable[[Context, Optimization], str | None]


def changes_something(context: Context, optimization: Optimization) -> str | None:
    """Each change differs from the effective value."""
    same = [change.knob for change in optimization.changes if change.recommended == context.value(change.knob)]
    if not optimization.changes or same:
        return f"{', '.join(same) or 'nothing'} would stay as it is"
    return None


def within_constraints(context: Context, optimization: Optimization) -> str | None:
    """Known to this version, not locked, allowed, within bounds."""
    refusals = (context.refusal(change.knob, change.recommended) for change in optimization.changes)
    return next((refusal for refusal in refusals if refusal), None)


def engine_accepts(context: Context, optimization: Optimization) -> str | None:
    """The catalogue renders the result and knows nothing certain against it that was not there before."""
    request = context.request
    before = context.catalogue.problems(request.version, request.config, device=request.device)
    result = request.config.with_changes(optimization.as_changes)
    after = context.catalogue.problems(request.version, result, device=request.device)
    return next((str(problem) for problem in after if problem not in before), None)


def not_remembered_as_bad(context: Context, optimization: Optimization) -> str | None:
    """What failed is not tried again."""
    if context.remembered(optimization.as_changes):
        return "this configuration has been tried and was not kept"
    return None


def worth_it(context: Context, optimization: Optimization) -> str | None:
    """A goal gets better by the least improvement that is asked for."""
    gain = context.gain(optimization.effects)
    if gain < context.request.min_improvement:
        least = context.request.min_improvement
        return f"{_goals(context)} would be {better(max(0.0, gain))}, and {percent(least)} is asked for"
    return None


def keeps_slo(context: Context, optimization: Optimization) -> str | None:
    """A latency that gets worse stays within its targets, as far as can be predicted; unknown is not within."""
    for effect in optimization.effects:
        if effect.metric not in LATENCY_OF or effect.ratio <= 1.0:
            continue
        for state in context.targets(effect.metric):
            if not isinstance(state.measured, Known):
                return f"{state.target.name} has a target and is not known now"
            predicted = state.measured.value * effect.ratio
            if predicted > state.target.seconds:
                return f"{state.target.name} would become {seconds(predicted)}, above {seconds(state.target.seconds)}"
    return None


GUARDRAILS: Final[tuple[Check, ...]] = (
    changes_something,
    within_constraints,
    engine_accepts,
    not_remembered_as_bad,
    worth_it,
    keeps_slo,
)


def objection(context: Context, optimization: Optimization) -> Rejected | None:
    """The first reason against an optimization, or None."""
    for check in GUARDRAILS:
        reason = check(context, optimization)
        if reason:
            return Rejected(optimization.title, f"{reason.rstrip('.')}.")
    return None


def _goals(context: Context) -> str:
    return " or ".join(metric.value for metric in context.goals)

"""Plans from the documented rules: every optimizer's proposals, the guardrails, what applies after what."""

from __future__ import annotations

from trimtab.model.plan import NoPlan, Optimization, Plan, Proposal, Rejected
from trimtab.model.reason import Reason
from trimtab.plan.assembled import assembled
from trimtab.plan.combine import combined, ordered
from trimtab.plan.context import Context
from trimtab.plan.feasibility import infeasible
from trimtab.plan.guardrails import objection
from trimtab.plan.modelled import KNOBS, NothingBetter
from trimtab.plan.optimizers import OPTIMIZERS
from trimtab.plan.workload import told


def by_rules(context: Context, weighed: NothingBetter | None) -> Proposal:
    """From the documented rules: about everything, or about what the model does not weigh where it found nothing."""
    request = context.request
    accepted: list[Optimization] = []
    rejected: list[Rejected] = [] if weighed is None else list(weighed.rejected)
    for _, optimize in OPTIMIZERS:
        for item in optimize(context):
            if weighed is not None and _is_weighed(item):
                continue
            against = item if isinstance(item, Rejected) else objection(context, item)
            if against is not None:
                rejected.append(against)
            elif isinstance(item, Optimization):
                accepted.append(item)
    steps = _applicable(context, ordered(accepted), rejected)
    if not steps:
        return _no_safe_change(context, rejected) if weighed is None else _nothing_better(context, weighed)
    plan = assembled(
        context,
        steps,
        improvement=combined(context, steps, context.objective),
        rejected=rejected,
        estimated=True,
        shortfall=_shortfall(context, weighed),
    )
    return request.plan if request.plan is not None and _still_says(request.plan, plan, context) else plan


def _shortfall(context: Context, weighed: NothingBetter | None) -> str:
    """What cannot be reached, also while something helps a part of the way."""
    if weighed is not None:
        return weighed.shortfall
    beyond = infeasible(context)
    return "" if beyond is None else beyond.message


def _is_weighed(item: Optimization | Rejected) -> bool:
    return isinstance(item, Optimization) and not KNOBS.keys().isdisjoint(item.as_changes)


def _nothing_better(context: Context, weighed: NothingBetter) -> NoPlan:
    """What the model said, with the targets that are out of reach."""
    findings = [finding.kind.value for finding in context.request.health.bottlenecks]
    found = f"Found: {', '.join(findings)}. " if findings else ""
    reasons = " ".join(f"{item.title}: {item.reason}" for item in weighed.rejected[:2])
    return NoPlan(
        Reason.NO_SAFE_CHANGE, f"{found}{weighed.shortfall} {weighed.message} {reasons}".replace("  ", " ").strip()
    )


def _applicable(
    context: Context, steps: tuple[Optimization, ...], rejected: list[Rejected]
) -> tuple[Optimization, ...]:
    """The steps that the engine accepts and that are not remembered as bad when they are applied one after another."""
    request, kept = context.request, []
    config = request.config
    for step in steps:
        after = config.with_changes(step.as_changes)
        before = context.catalogue.problems(request.version, config, device=request.device)
        problems = [
            p for p in context.catalogue.problems(request.version, after, device=request.device) if p not in before
        ]
        if problems or after in request.tried or after == config:
            why = problems[0] if problems else "Together with the steps before, it has been tried and was not kept."
            rejected.append(Rejected(step.title, str(why)))
            continue
        kept.append(step)
        config = after
    return tuple(kept)


def _no_safe_change(context: Context, rejected: list[Rejected]) -> NoPlan:
    findings = [finding.kind.value for finding in context.request.health.bottlenecks]
    found = f"Found: {', '.join(findings)}." if findings else "The SLO is violated."
    if not rejected:
        return NoPlan(
            Reason.NOTHING_TO_IMPROVE, f"{found} No engine setting is known to help. {told(context.workload)}."
        )
    reasons = " ".join(f"{item.title}: {item.reason}" for item in rejected[:3])
    return NoPlan(Reason.NO_SAFE_CHANGE, f"{found} {reasons}")


def _still_says(old: Plan, new: Plan, context: Context) -> bool:
    """Whether the last plan proposes the same knobs with values within a factor of two: noise makes no new plan."""
    if (old.start, old.engine, old.engine_version, old.target) != (
        new.start,
        new.engine,
        new.engine_version,
        new.target,
    ):
        return False
    if len(old.optimizations) != len(new.optimizations):
        return False
    for mine, theirs in zip(old.optimizations, new.optimizations, strict=True):
        if mine.type is not theirs.type or set(mine.as_changes) != set(theirs.as_changes):
            return False
        for knob, value in mine.as_changes.items():
            if not _close(value, theirs.as_changes[knob]):
                return False
        if objection(context, mine) is not None:
            return False
    return old.result not in context.request.tried


def _close(one: object, other: object) -> bool:
    if one == other:
        return True
    numbers = [v for v in (one, other) if isinstance(v, int) and not isinstance(v, bool)]
    return len(numbers) == 2 and min(numbers) > 0 and max(numbers) <= 2 * min(numbers)

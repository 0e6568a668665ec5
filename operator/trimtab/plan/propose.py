"""From a request to a proposal: may anything be proposed, what could help, what passes, in which order."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue import EngineCatalogue, find_engine
from trimtab.model.bottleneck import BottleneckKind, Severity
from trimtab.model.plan import NoPlan, Optimization, Plan, Proposal, Rejected
from trimtab.model.reading import Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.wording import number, percent, seconds
from trimtab.plan.combine import combined, ordered
from trimtab.plan.context import SURE, Context
from trimtab.plan.feasibility import infeasible
from trimtab.plan.guardrails import objection
from trimtab.plan.modelled import KNOBS, NothingBetter, modelled
from trimtab.plan.optimizers import OPTIMIZERS
from trimtab.plan.request import PlanRequest
from trimtab.plan.workload import Workload, read

_REASONS: Final = {
    Why.NOT_SCRAPED: Reason.METRICS_MISSING,
    Why.NO_TRAFFIC: Reason.NO_TRAFFIC,
    Why.STALE: Reason.METRICS_STALE,
    Why.NOT_A_NUMBER: Reason.METRICS_INVALID,
    Why.UNREACHABLE: Reason.PROMETHEUS_UNREACHABLE,
    Why.TIMEOUT: Reason.PROMETHEUS_TIMEOUT,
    Why.BAD_ANSWER: Reason.PROMETHEUS_BAD_ANSWER,
    Why.NOT_EXPORTED: Reason.METRICS_MISSING,
    Why.TOO_FEW_SAMPLES: Reason.TOO_FEW_SAMPLES,
}
# Findings that no engine setting cures.
_NOT_OURS: Final = frozenset({BottleneckKind.IDLE, BottleneckKind.OVER_PROVISIONED, BottleneckKind.REPLICA_IMBALANCE})
_MOST_REJECTED = 16


def propose(request: PlanRequest) -> Proposal:
    """A plan, or why there is none. Never raises for what was measured or asked; the same request, the same answer."""
    catalogue = find_engine(request.engine)
    if catalogue is None:
        return NoPlan(Reason.UNKNOWN_ENGINE, f"There is no engine {request.engine!r} in the catalogue.")
    refused = _engine_refusal(catalogue, request)
    if refused is not None:
        return refused
    workload = read(request.snapshot, request.stable)
    if isinstance(workload, Unknown):
        message = workload.message or "The metrics of the serving pods cannot be read."
        return NoPlan(_REASONS[workload.why], message)
    calm = _nothing_to_do(request, workload)
    if calm is not None:
        return calm
    context = Context.of(request, catalogue, workload)
    weighed = modelled(context)
    answer = weighed if isinstance(weighed, Plan) else _by_rules(context, weighed)
    # What helps a part of the way is worth trying; only where nothing does, the objective itself is in question.
    return (infeasible(context) or answer) if isinstance(answer, NoPlan) else answer


def _engine_refusal(catalogue: EngineCatalogue, request: PlanRequest) -> NoPlan | None:
    if not catalogue.tunable:
        return NoPlan(Reason.NO_SAFE_CHANGE, f"{catalogue.title} is watched only: {catalogue.note}")
    if not catalogue.supports(request.version):
        return NoPlan(
            Reason.UNSUPPORTED_ENGINE_VERSION,
            f"The flags of {catalogue.title} {request.version} are not known; known are {catalogue.covered}.",
        )
    return None


def _nothing_to_do(request: PlanRequest, load: Workload) -> NoPlan | None:
    """No traffic, or nothing found that is severe and sure enough: the service is left alone."""
    findings = request.health.bottlenecks
    quiet = load.running <= 0 and load.waiting <= 0 and load.request_rate == 0
    if quiet or any(finding.kind is BottleneckKind.IDLE for finding in findings):
        return NoPlan(Reason.NO_TRAFFIC, "No requests come in, so nothing can be improved or judged.")
    pressing = [
        finding
        for finding in findings
        if finding.kind not in _NOT_OURS and finding.severity >= Severity.MEDIUM and finding.confidence >= SURE
    ]
    if pressing or request.health.slo_met is False:
        return None
    slo = {True: "the SLO is met", None: "no target is known to be violated"}.get(request.health.slo_met, "")
    return NoPlan(Reason.NOTHING_TO_IMPROVE, f"{_numbers(load)}, and {slo}.")


def _numbers(load: Workload) -> str:
    text = f"{number(load.running)} requests run and {number(load.waiting)} wait per pod"
    if load.kv_usage is not None:
        text += f", {percent(load.kv_usage)} of the KV cache is used"
    if load.ttft is not None:
        text += f", the mean time to first token is {seconds(load.ttft)}"
    return text


def _by_rules(context: Context, weighed: NothingBetter | None) -> Proposal:
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
    result = request.config
    for step in steps:
        result = result.with_changes(step.as_changes)
    plan = Plan(
        namespace=request.namespace,
        target=request.target,
        engine=request.engine,
        engine_version=request.version,
        start=request.config,
        result=result,
        optimizations=steps,
        improvement=combined(context, steps, context.objective),
        rejected=tuple(rejected[:_MOST_REJECTED]),
        fingerprint=context.workload.fingerprint,
        gpus_while_rolling_out=request.gpus_per_pod * (request.replicas + 1),
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
            Reason.NOTHING_TO_IMPROVE, f"{found} No engine setting is known to help. {_numbers(context.workload)}."
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

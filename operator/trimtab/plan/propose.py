"""From a request to a proposal: may anything be proposed, what could help, what passes, in which order."""

from __future__ import annotations

from typing import Final

from trimtab.catalogue import EngineCatalogue, find_engine
from trimtab.model.bottleneck import BottleneckKind, Severity
from trimtab.model.plan import NoPlan, Plan, Proposal
from trimtab.model.reading import Unknown, Why
from trimtab.model.reason import Reason
from trimtab.plan.by_rules import by_rules
from trimtab.plan.context import SURE, Context
from trimtab.plan.feasibility import infeasible
from trimtab.plan.modelled import modelled
from trimtab.plan.request import PlanRequest
from trimtab.plan.workload import Workload, read, told

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
    answer = weighed if isinstance(weighed, Plan) else by_rules(context, weighed)
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
    return NoPlan(Reason.NOTHING_TO_IMPROVE, f"{told(load)}, and {slo}.")

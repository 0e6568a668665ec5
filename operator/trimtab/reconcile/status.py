"""The status of an LLMDeployment as a pure function of what is known, and whether it is worth a write.

`kubectl describe` shows it as it stands, so the sentences are written for a person. Measured figures move all the time;
they are carried along when something else changed, or when they have moved so far that the old ones mislead, so that
nothing is written while nothing happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.api.conditions import set_condition
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.bottleneck import Health
from trimtab.model.plan import NoPlan, Plan, Proposal
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.reason import Reason
from trimtab.model.rollout import Attempt, Phase, RevisionFacts, RolloutState, RouteFacts, Source
from trimtab.model.snapshot import RevisionView, Snapshot
from trimtab.reconcile.quality import Gate
from trimtab.reconcile.routes import CONDITION as ROUTE_CONDITION
from trimtab.reconcile.spec_checks import Problem

_METRICS_REASONS = {
    Why.UNREACHABLE: Reason.PROMETHEUS_UNREACHABLE,
    Why.TIMEOUT: Reason.PROMETHEUS_TIMEOUT,
    Why.BAD_ANSWER: Reason.PROMETHEUS_BAD_ANSWER,
    Why.NOT_A_NUMBER: Reason.METRICS_INVALID,
    Why.STALE: Reason.METRICS_STALE,
    Why.NO_TRAFFIC: Reason.NO_TRAFFIC,
}

_PHASE_REASONS = {
    Phase.STARTING: Reason.STARTING,
    Phase.STABLE: Reason.STABLE,
    Phase.CANARY_STARTING: Reason.CANARY_STARTING,
    Phase.CANARY_JUDGING: Reason.CANARY_JUDGING,
    Phase.SHIFTING: Reason.SHIFTING,
    Phase.PROMOTING: Reason.PROMOTING,
    Phase.WATCHING: Reason.WATCHING,
    Phase.ROLLING_BACK: Reason.ROLLING_BACK,
}


# What a user can do about a change of the spec that could not run. Trimtab's own trials need nobody.
_NEXT_STEPS = {
    Reason.CANARY_CRASH_LOOP: "Take back what was changed in spec.engine, or correct it for this engine version.",
    Reason.CANARY_OOM_KILLED: "Raise spec.resources.limits.memory, or let the engine take less.",
    Reason.CANARY_IMAGE_PULL: "Correct spec.engine.image, or name its credentials in spec.pod.imagePullSecrets.",
    Reason.CANARY_UNSCHEDULABLE: "Ask for less in spec.resources or spec.accelerator, or add a node that has it.",
    Reason.CANARY_NOT_READY: "Raise spec.rollout.readyDeadlineSeconds if this engine needs longer to start.",
    Reason.LIVE_REFUSED: "Correct the values: the engine's log and its /health name the field.",
    Reason.QUOTA_EXCEEDED: "Raise the namespace's quota, or ask for less in spec.resources.",
    Reason.INSUFFICIENT_GPUS: "Ask for fewer in spec.accelerator.count, or add a node that has them.",
}


# Why a trial may not start, where only a person can change it: told before how the last trial ended.
_WAITS_FOR_SOMEONE = frozenset(
    {
        Reason.INSUFFICIENT_GPUS,
        Reason.INSUFFICIENT_CAPACITY,
        Reason.ATTEMPTS_EXHAUSTED,
        Reason.OWNED_BY_GIT,
        Reason.OUTSIDE_WINDOW,
        Reason.ROUTE_NOT_USABLE,
        Reason.FIELD_CONFLICT,
        Reason.TARGET_CONFLICT,
        Reason.FORBIDDEN,
    }
)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a status is made of. Parts that could not be gathered are None."""

    deployment: LLMDeployment
    problem: Problem | None = None  # without a state: it kept everything else from being looked at
    state: RolloutState | None = None
    rollout: Mapping[str, Any] | None = None  # the serialised state
    attempts: Sequence[Mapping[str, Any]] = ()
    revisions: Mapping[str, RevisionFacts] | None = None
    snapshot: Snapshot | None = None
    health: Health | None = None
    proposal: Proposal | None = None
    plan_name: str = ""
    awaits_approval: bool = False
    gate: Gate | None = None
    route: RouteFacts | None = None
    approval_problem: str = ""
    selector: str = ""


def status_of(report: Report, now: float) -> dict[str, Any]:
    """The whole status, as it is applied. `now`: seconds since the epoch, for conditions that change."""
    before = report.deployment.status
    status: dict[str, Any] = {
        "observedGeneration": report.deployment.metadata.generation,
        "conditions": _conditions(report, before.get("conditions") or [], now),
        "summary": summary(report),
    }
    state = report.state
    if report.problem is not None and state is None:
        # What was known stays visible beside the problem; nothing else has been looked at.
        kept = {key: value for key, value in before.items() if key not in status}
        return {**kept, **status, "phase": before.get("phase") or "Blocked", "reason": report.problem.reason.value}
    if state is not None:
        status["phase"] = state.phase.value
        status["reason"] = _reason(report, state).value
        status["rollout"] = dict(report.rollout or {})
        status["attempts"] = [dict(attempt) for attempt in report.attempts]
        status["revisions"] = _revisions(state, report.revisions or {})
        status["replicas"] = sum(facts.ready for facts in (report.revisions or {}).values())
        status["selector"] = report.selector
    if report.health is not None:
        status["slo"] = {True: "Met", False: "Violated", None: "Unknown"}[report.health.slo_met]
        status["findings"] = [
            {
                "kind": found.kind.value,
                "severity": found.severity.label,
                "confidencePercent": round(found.confidence * 100),
                "message": found.message[:500],
            }
            for found in report.health.bottlenecks
        ]
        status["bottleneck"] = report.health.worst.kind.value if report.health.worst else "None"
    if report.plan_name:
        status["plan"] = report.plan_name
    if report.snapshot is not None and state is not None and state.stable is not None:
        status["measured"] = measured(report.snapshot.revision(state.stable.revision))
    cleaned: dict[str, Any] = without_empty_maps(status)
    return cleaned


def without_empty_maps(value: Any) -> Any:
    """`value` without maps that hold nothing: server-side apply turns an emptied map into null, which is refused."""
    if isinstance(value, Mapping):
        cleaned = {name: without_empty_maps(item) for name, item in value.items()}
        return {name: item for name, item in cleaned.items() if item != {}}
    if isinstance(value, list):
        return [without_empty_maps(item) for item in value]
    return value


def _reason(report: Report, state: RolloutState) -> Reason:
    if report.problem is not None:
        return report.problem.reason
    if report.deployment.spec.suspend:
        return Reason.SUSPENDED
    if report.deployment.paused:
        return Reason.PAUSED
    return _PHASE_REASONS[state.phase]


def _revisions(state: RolloutState, revisions: Mapping[str, RevisionFacts]) -> list[dict[str, Any]]:
    configs = {item.revision: item.config for item in (state.previous, state.candidate, state.stable) if item}
    rows = []
    for name, facts in sorted(revisions.items()):
        if facts.gone and name not in configs:
            continue
        if state.stable is not None and name == state.stable.revision:
            role = "Stable"
        elif state.candidate is not None and name == state.candidate.revision:
            role = "Canary"
        else:
            role = "Draining"
        rows.append(
            {
                "name": name,
                "role": role,
                "replicas": facts.desired,
                "ready": facts.ready,
                "config": dict(configs.get(name) or {}),
            }
        )
    return rows


def measured(view: RevisionView) -> dict[str, int]:
    """The newest readings of the stable revision, rounded; what is not known is absent."""
    ttft, itl = view.pooled(lambda pod: pod.ttft), view.pooled(lambda pod: pod.itl)
    requests, errors = view.summed(lambda pod: pod.request_rate), view.summed(lambda pod: pod.error_rate)
    figures: dict[str, Reading[float]] = {
        "outputTokensPerSecond": view.summed(lambda pod: pod.output_token_rate),
        "requestsPerSecondMilli": _scaled(requests, 1000),
        "running": view.summed(lambda pod: pod.running),
        "waiting": view.summed(lambda pod: pod.waiting),
    }
    if isinstance(ttft, Known) and ttft.value.count > 0:
        figures["ttftP50Milliseconds"] = Known(ttft.value.quantile(0.50) * 1000)
        figures["ttftP95Milliseconds"] = Known(ttft.value.quantile(0.95) * 1000)
    if isinstance(itl, Known) and itl.value.count > 0:
        figures["itlP95Milliseconds"] = Known(itl.value.quantile(0.95) * 1000)
    usage = [pod.metrics.kv_usage.value for pod in view.ready_pods if isinstance(pod.metrics.kv_usage, Known)]
    if usage:
        figures["kvUsagePercent"] = Known(min(max(usage) * 100, 100.0))
    if isinstance(requests, Known) and isinstance(errors, Known) and requests.value > 0:
        figures["errorPermille"] = Known(min(errors.value / requests.value * 1000, 1000.0))
    return {name: round(reading.value) for name, reading in sorted(figures.items()) if isinstance(reading, Known)}


def _scaled(reading: Reading[float], factor: float) -> Reading[float]:
    return Known(reading.value * factor) if isinstance(reading, Known) else reading


def summary(report: Report) -> str:
    """One or two sentences: what is wrong, the number that shows it, and what is done about it."""
    if report.problem is not None:
        return report.problem.message
    sentences = []
    if report.snapshot is not None and isinstance(report.snapshot.metrics, Unknown):
        sentences.append(f"Nothing is decided, because the metrics cannot be read: {report.snapshot.metrics.message}")
    elif report.health is not None and report.health.worst is not None:
        sentences.append(report.health.worst.message)
    elif report.health is not None:
        sentences.append("No bottleneck was found.")
    if report.state is not None and report.state.holding:
        sentences.append(report.state.holding)
    if isinstance(report.proposal, NoPlan):
        sentences.append(report.proposal.message)
    elif isinstance(report.proposal, Plan):
        sentences.append(f"The plan {report.proposal.name} proposes: {report.proposal.optimizations[0].title}.")
    if report.state is not None and report.state.attempts:
        sentences.append(_last_attempt(report.state.attempts[0]))
    return " ".join(sentence if sentence.endswith((".", "!", "?")) else sentence + "." for sentence in sentences)[:2000]


def _last_attempt(attempt: Attempt) -> str:
    said = {
        Reason.PROMOTED: "was promoted",
        Reason.PROVEN: "proved itself on a copy",
        Reason.ROLLED_BACK: "was rolled back",
        Reason.ABANDONED: "was abandoned",
        Reason.SUPERSEDED: "was superseded",
        Reason.WITHDRAWN: "was withdrawn",
    }.get(attempt.outcome, f"ended as {attempt.outcome.value}")
    told = f"The last trial, revision {attempt.revision}, {said}: {attempt.message}"
    step = _NEXT_STEPS.get(attempt.reason, "") if attempt.source is Source.USER else ""
    return f"{told} {step}".rstrip()


def _conditions(report: Report, before: Sequence[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = [dict(condition) for condition in before]
    if report.state is not None and report.route is None:
        # No route is named, and nothing of one is left.
        conditions = [condition for condition in conditions if condition.get("type") != ROUTE_CONDITION]
    for kind, status, reason, message in _judged(report):
        conditions = set_condition(
            conditions,
            kind,
            status=status,
            reason=reason,
            message=message,
            generation=report.deployment.metadata.generation,
            now=now,
        )
    return conditions


_Row = tuple[str, bool | None, Reason, str]


def _judged(report: Report) -> list[_Row]:
    rows: list[_Row] = []
    if report.problem is not None:
        rows.append(("Ready", False, report.problem.reason, report.problem.message))
    elif report.state is not None:
        rows.append(_ready(report, report.state))
    if report.state is not None:
        rows.append(_progressing(report.state))
    if report.snapshot is not None:
        rows.append(_metrics(report.snapshot))
    if report.health is not None:
        rows.append(_slo(report.health))
    if report.proposal is not None:
        row = _planned(report.proposal, awaits_approval=report.awaits_approval)
        if report.approval_problem:
            row = (row[0], row[1], Reason.PLAN_EXPIRED, f"{report.approval_problem} {row[3]}")
        rows.append(row)
    if report.gate is not None and _shows_gate(report, report.gate):
        rows.append(("QualityGate", report.gate.can_run, report.gate.reason, report.gate.message))
    if report.route is not None:
        rows.append(_route(report.route))
    return rows


def _route(route: RouteFacts) -> _Row:
    if route.obstacle is not None:
        return (ROUTE_CONDITION, False, route.obstacle, route.message)
    return (ROUTE_CONDITION, True, Reason.ROUTE_READY, "The route shares the traffic by weight between both Services.")


def _shows_gate(report: Report, gate: Gate) -> bool:
    """Where it was asked for, keeps a plan waiting, or has been shown before: else it is no news."""
    shown = any(item.get("type") == "QualityGate" for item in report.deployment.status.get("conditions") or ())
    waits = report.awaits_approval and not gate.can_run
    return report.deployment.spec.quality.probes is not None or waits or shown


def _ready(report: Report, state: RolloutState) -> _Row:
    revisions = (report.revisions or {}).values()
    serving = sum(facts.ready for facts in revisions)
    wanted = report.deployment.spec.replicas
    if report.deployment.adopted:
        wanted = sum(facts.desired for facts in revisions if not facts.owned)
    if state.phase is Phase.STARTING or serving < wanted:
        message = f"{serving} of {wanted} pods are ready. {state.holding}".strip()
        return ("Ready", False, Reason.STARTING, message)
    return ("Ready", True, Reason.RECONCILED, f"{serving} pods are ready, {wanted} are wanted.{_newer(report)}")


def _newer(report: Report) -> str:
    """Which fields of the spec this version does not know."""
    if not report.deployment.left_aside:
        return ""
    named = ", ".join(report.deployment.left_aside)
    return f" Not known to this version, and left aside: {named}. No plan is tried until the operator is upgraded."


def _progressing(state: RolloutState) -> _Row:
    moving = state.phase not in (Phase.STABLE, Phase.STARTING)
    reason = _PHASE_REASONS[state.phase]
    if not moving and state.held_by in _WAITS_FOR_SOMEONE:
        before = _last_attempt(state.attempts[0]) if state.attempts else ""
        return ("Progressing", moving, state.held_by, f"{state.holding} {before}".rstrip())
    if not moving and state.attempts:
        last = state.attempts[0]
        return ("Progressing", moving, last.outcome, _last_attempt(last))
    return ("Progressing", moving, reason, state.holding or "No trial is running.")


def _metrics(snapshot: Snapshot) -> _Row:
    if isinstance(snapshot.metrics, Known):
        message = f"Metrics were read over {snapshot.window:.0f} seconds."
        return ("MetricsAvailable", True, Reason.METRICS_FOUND, message)
    reason = _METRICS_REASONS.get(snapshot.metrics.why, Reason.METRICS_MISSING)
    return ("MetricsAvailable", False, reason, snapshot.metrics.message)


def _slo(health: Health) -> _Row:
    if not health.targets and health.slo_met is None:
        return ("SLOSatisfied", None, Reason.NO_SLO, "spec.slo has no target that could be checked.")
    if health.slo_met is None:
        message = "There are not enough samples to check the SLO."
        return ("SLOSatisfied", None, Reason.TOO_FEW_SAMPLES, message)
    parts = [
        f"{state.target.name} is {state.measured.value * 1000:.0f} ms, the target {state.target.seconds * 1000:.0f} ms"
        for state in health.targets
        if isinstance(state.measured, Known) and state.met is health.slo_met
    ]
    message = "; ".join(parts) + "." if parts else "All targets are met."
    if health.slo_met:
        return ("SLOSatisfied", True, Reason.SLO_MET, message)
    return ("SLOSatisfied", False, Reason.SLO_VIOLATED, message)


def _planned(proposal: Proposal, *, awaits_approval: bool) -> _Row:
    if isinstance(proposal, NoPlan):
        return ("Planned", False, proposal.reason, proposal.message)
    steps = "; ".join(step.title for step in proposal.optimizations)
    effect = proposal.improvement
    word = "Estimated" if proposal.estimated else "Predicted"
    message = (
        f"{proposal.name}: {steps}. {word} {effect.metric.value} x {effect.ratio:.2f} "
        f"({effect.low:.2f} to {effect.high:.2f}, {effect.basis}). {proposal.shortfall}"
    ).rstrip()
    if awaits_approval:
        way = "It is tried once spec.tuning.approvedPlan holds its name."
        return ("Planned", True, Reason.AWAITING_APPROVAL, f"{message} {way}")
    return ("Planned", True, Reason.PLAN_PROPOSED, message)

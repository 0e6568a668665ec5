"""What the command line prints: from resources to text, without any access of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from trimtab.api.convert import Unreadable, config_of, plan_from
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.api.v1alpha1.status import AttemptStatus
from trimtab.model.bottleneck import Health
from trimtab.model.reading import Known
from trimtab.model.reason import Reason
from trimtab.render import export_patch, target_patch


def explanation(llmdep: Mapping[str, Any], plan: Mapping[str, Any] | None) -> Iterator[str]:
    """The state of one LLMDeployment as a person would tell it, line by line."""
    metadata, status = llmdep["metadata"], llmdep.get("status") or {}
    yield f"{metadata['namespace']}/{metadata['name']}: {status.get('phase', 'not seen by the operator yet')}"
    if status.get("summary"):
        yield f"  {status['summary']}"
    if status.get("measured"):
        yield "Measured: " + ", ".join(f"{name} {value}" for name, value in sorted(status["measured"].items()))
    yield from _findings(status)
    if status.get("conditions"):
        yield "Conditions:"
    for item in status.get("conditions") or []:
        yield f"  {item['type']}={item['status']} ({item['reason']}): {item.get('message', '')}"
    if plan is not None:
        yield f"Plan {plan['metadata']['name']}:"
        yield from (f"  {line}" for line in plan_lines(plan))
    for attempt in status.get("attempts") or []:
        yield f"Attempt {attempt['revision']} ({attempt['source']}): {attempt['outcome']}, {attempt['message']}"


def _findings(status: Mapping[str, Any]) -> Iterator[str]:
    for finding in status.get("findings") or []:
        confidence = f"{finding['confidencePercent']} % confident"
        yield f"{finding['severity']} {finding['kind']} ({confidence}): {finding['message']}"


def plan_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """An OptimizationPlan: each optimization with its changes, and what was rejected."""
    spec = plan["spec"]
    for number, step in enumerate(spec["optimizations"], start=1):
        yield f"{number}. {step['title']} ({step['type']}, impact {step['impact']})"
        for change in step["changes"]:
            yield f"   {change['knob']}: {_shown(change.get('from'))} -> {_shown(change.get('to'))}: {change['reason']}"
        for effect in step.get("effects") or []:
            yield f"   predicted {effect['metric']} {_interval(effect)}"
        if step.get("trades"):
            yield f"   trades away: {', '.join(step['trades'])}"
        for risk in step.get("risks") or []:
            yield f"   risk: {risk}"
    if spec.get("shortfall"):
        yield f"out of reach: {spec['shortfall']}"
    for item in spec.get("rejected") or []:
        yield f"rejected: {item['title']}: {item['reason']}"
    yield from _results(plan.get("status") or {})


def _results(status: Mapping[str, Any]) -> Iterator[str]:
    """What came of the steps that were tried, measured beside predicted."""
    for step in status.get("steps") or []:
        yield f"step {step['step'] + 1}, revision {step['revision']}: {step.get('outcome') or 'on trial'}"
        for effect in step.get("effects") or []:
            if "measuredPermille" in effect:
                measured, predicted = effect["measuredPermille"] / 1000, effect["predictedPermille"] / 1000
                yield f"   measured {effect['metric']} x {measured:.2f}, predicted x {predicted:.2f}"
            elif "unmeasured" in effect:
                yield f"   {effect['metric']} not measured: {effect['unmeasured']}"


def _interval(effect: Mapping[str, Any]) -> str:
    ratio, low, high = (effect[name] / 1000 for name in ("ratioPermille", "lowPermille", "highPermille"))
    return f"x {ratio:.2f} ({low:.2f} to {high:.2f}; {effect['basis']})"


def differences(llmdep: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[str]:
    """What the plan's result changes in the configuration that runs, as a unified list."""
    running = ((llmdep.get("status") or {}).get("rollout") or {}).get("stable", {}).get("config") or {}
    result = plan["spec"].get("result") or {}
    for knob in sorted({*running, *result}):
        if running.get(knob) == result.get(knob):
            yield f"  {knob}: {_shown(running.get(knob))}"
            continue
        if knob in running:
            yield f"- {knob}: {_shown(running[knob])}"
        if knob in result:
            yield f"+ {knob}: {_shown(result[knob])}"


def patch(llmdep: Mapping[str, Any], plan: Mapping[str, Any] | None, target: Mapping[str, Any] | None) -> str:
    """YAML to commit: the planned configuration (without a plan the spec's own) as a patch of the adopted workload, or
    of the resource. What a trial on a copy has proven of it comes before what has not been tried, and a comment tells
    the two apart. Raises RenderError, and ValueError for a plan that cannot be read.
    """
    deployment = LLMDeployment.read(llmdep)
    proven = _proven(deployment, str(plan["metadata"]["name"]) if plan is not None else "")
    if proven is not None and target is not None:
        document = target_patch(target, deployment, proven.config.to_config())
        return f"# Proven on a copy as revision {proven.revision}.\n{yaml.safe_dump(document, sort_keys=False)}"
    if plan is None:
        document = target_patch(target, deployment, config_of(deployment.spec)) if target is not None else {}
    else:
        proposal = plan_from(plan)
        if isinstance(proposal, Unreadable):
            raise ValueError(proposal.message)
        document = export_patch(deployment, proposal, target)
    return yaml.safe_dump(document, sort_keys=False) if document else "# The spec itself is what a repository holds.\n"


def _proven(deployment: LLMDeployment, plan: str) -> AttemptStatus | None:
    """The newest trial that proved itself, of a plan or, without its name, of the spec's own configuration."""
    asked = config_of(deployment.spec)
    for item in deployment.status.get("attempts") or ():
        attempt = AttemptStatus.model_validate(item)
        fits = plan or all(attempt.config.to_config().get(knob) == value for knob, value in asked.items())
        if attempt.outcome == Reason.PROVEN and (attempt.plan or "") == plan and fits:
            return attempt
    return None


def diagnosis(health: Health) -> Iterator[str]:
    """Findings, worst first, and the SLO target by target."""
    if not health.bottlenecks:
        yield "No bottleneck was found."
    for found in health.bottlenecks:
        yield f"{found.severity.label} {found.kind.value} ({found.confidence:.0%} confident): {found.message}"
    for state in health.targets:
        measured = f"{state.measured.value * 1000:.0f} ms" if isinstance(state.measured, Known) else "unknown"
        yield f"{state.target.name}: {measured}, target {state.target.seconds * 1000:.0f} ms"


def _shown(value: object) -> str:
    return "(default)" if value is None else str(value)

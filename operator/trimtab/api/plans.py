"""`Plan` as an OptimizationPlan, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from trimtab.api.conditions import cut
from trimtab.api.rollout_state import Unreadable
from trimtab.api.v1alpha1 import OptimizationPlan
from trimtab.api.v1alpha1.plan import ChangeSpec, EffectSpec, OptimizationSpec
from trimtab.api.values import UnreadableError, from_text, to_knobs, to_text
from trimtab.model.plan import Change, Effect, Impact, Optimization, Plan, Rejected

_LINE, _TEXT = 1024, 4096
_LIMIT = 2.0**53


def plan_to(plan: Plan) -> dict[str, Any]:
    """The `spec` of the OptimizationPlan. Ratios are rounded to thousandths: a resource holds no floats in its spec."""
    document: dict[str, Any] = {
        "target": plan.target,
        "engine": plan.engine,
        "engineVersion": plan.engine_version,
        "start": to_knobs(plan.start).to_json(),
        "result": to_knobs(plan.result).to_json(),
        "optimizations": [_optimization_to(step) for step in plan.optimizations],
        "improvement": _effect_to(plan.improvement),
        "rejected": [{"title": cut(r.title, _LINE), "reason": cut(r.reason, _LINE)} for r in plan.rejected],
        "fingerprintMilli": {key: milli(value) for key, value in sorted(plan.fingerprint.items())},
        "gpusWhileRollingOut": plan.gpus_while_rolling_out,
        "estimated": plan.estimated,
        **({"shortfall": cut(plan.shortfall, _LINE)} if plan.shortfall else {}),
    }
    return document


def plan_from(document: Mapping[str, Any]) -> Plan | Unreadable:
    """The plan in a whole OptimizationPlan, as the API server gives it."""
    try:
        held = OptimizationPlan.model_validate(document)
        spec = held.spec
        return Plan(
            namespace=held.metadata.namespace,
            target=spec.target,
            engine=spec.engine,
            engine_version=spec.engine_version,
            start=spec.start.to_config(),
            result=spec.result.to_config(),
            optimizations=tuple(_optimization_from(step) for step in spec.optimizations),
            improvement=_effect_from(spec.improvement),
            rejected=tuple(Rejected(item.title, item.reason) for item in spec.rejected),
            fingerprint={key: value / 1000 for key, value in spec.fingerprint_milli.items()},
            gpus_while_rolling_out=spec.gpus_while_rolling_out,
            estimated=spec.estimated,
            shortfall=spec.shortfall,
        )
    except ValidationError as error:
        first = error.errors()[0]
        return Unreadable(f"the plan cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    except UnreadableError as error:
        return Unreadable(f"the plan cannot be read: {error}")


def milli(value: float) -> int:
    """A number in thousandths, bounded to what every JSON parser keeps exactly."""
    if math.isnan(value):
        raise ValueError("NaN has no thousandths")
    return round(max(-_LIMIT, min(_LIMIT, value * 1000)))


def _effect_to(effect: Effect) -> dict[str, Any]:
    return {
        "metric": effect.metric.value,
        "ratioPermille": milli(effect.ratio),
        "lowPermille": milli(effect.low),
        "highPermille": milli(effect.high),
        "basis": cut(effect.basis, _LINE),
    }


def _effect_from(held: EffectSpec) -> Effect:
    return Effect(
        metric=held.metric,
        ratio=held.ratio_permille / 1000,
        low=held.low_permille / 1000,
        high=held.high_permille / 1000,
        basis=held.basis,
    )


def _change_to(change: Change) -> dict[str, Any]:
    document = {
        "knob": change.knob,
        "from": to_text(change.current),
        "to": to_text(change.recommended),
        "reason": cut(change.reason, _LINE),
    }
    return {key: value for key, value in document.items() if value is not None}


def _change_from(held: ChangeSpec) -> Change:
    return Change(
        knob=held.knob,
        current=from_text(held.knob, held.current),
        recommended=from_text(held.knob, held.recommended),
        reason=held.reason,
    )


def _optimization_to(step: Optimization) -> dict[str, Any]:
    return {
        "type": step.type.value,
        "title": cut(step.title, _LINE),
        "description": cut(step.description, _TEXT),
        "changes": [_change_to(change) for change in step.changes],
        "impact": step.impact.label,
        "effects": [_effect_to(effect) for effect in step.effects],
        "effort": step.effort.value,
        "addresses": [kind.value for kind in step.addresses],
        "risks": [cut(risk, _LINE) for risk in step.risks],
        "prerequisites": [cut(text, _LINE) for text in step.prerequisites],
        "trades": [metric.value for metric in step.trades],
        "altersOutputs": step.alters_outputs,
    }


def _optimization_from(held: OptimizationSpec) -> Optimization:
    return Optimization(
        type=held.type,
        title=held.title,
        description=held.description,
        changes=tuple(_change_from(change) for change in held.changes),
        impact=Impact[held.impact.value.upper()],
        effects=tuple(_effect_from(effect) for effect in held.effects),
        effort=held.effort,
        addresses=held.addresses,
        risks=held.risks,
        prerequisites=held.prerequisites,
        trades=held.trades,
        alters_outputs=held.alters_outputs,
    )

"""A plan from its steps, whoever found them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trimtab.model.plan import Effect, Optimization, Plan, Rejected
from trimtab.plan.context import Context

MOST_REJECTED: Final = 16


def assembled(
    context: Context,
    steps: tuple[Optimization, ...],
    *,
    improvement: Effect,
    rejected: Sequence[Rejected],
    estimated: bool,
    shortfall: str,
) -> Plan:
    """The plan that starts at what runs and applies `steps` one after another."""
    request = context.request
    result = request.config
    for step in steps:
        result = result.with_changes(step.as_changes)
    return Plan(
        namespace=request.namespace,
        target=request.target,
        engine=request.engine,
        engine_version=request.version,
        start=request.config,
        result=result,
        optimizations=steps,
        improvement=improvement,
        rejected=tuple(rejected[:MOST_REJECTED]),
        fingerprint=context.workload.fingerprint,
        gpus_while_rolling_out=request.gpus_per_pod * (request.replicas + 1),
        estimated=estimated,
        shortfall=shortfall,
    )

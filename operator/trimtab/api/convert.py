"""From the resources to the nouns of `model`, and back."""

from __future__ import annotations

from trimtab.api.plan_results import PlanFacts, plan_status
from trimtab.api.plans import plan_from, plan_to
from trimtab.api.rollout_state import Unreadable, rollout_state_from, rollout_state_to
from trimtab.api.v1alpha1 import Spec
from trimtab.api.v1alpha1.rollout import Strategy as Chosen
from trimtab.api.v1alpha1.spec import LatencyObjective
from trimtab.model.config import EngineConfig
from trimtab.model.quality import Budget
from trimtab.model.rollout import Policy, Strategy
from trimtab.model.slo import Latency, LatencyTarget, Slo


def _targets(metric: Latency, objective: LatencyObjective | None) -> tuple[LatencyTarget, ...]:
    if objective is None:
        return ()
    bounds = {50: objective.p50_milliseconds, 95: objective.p95_milliseconds, 99: objective.p99_milliseconds}
    return tuple(
        LatencyTarget(metric, percentile, milliseconds / 1000)
        for percentile, milliseconds in bounds.items()
        if milliseconds is not None
    )


def slo_of(spec: Spec) -> Slo:
    """The service level objective, in seconds and shares."""
    slo = spec.slo
    return Slo(
        latencies=(
            *_targets(Latency.TTFT, slo.ttft),
            *_targets(Latency.ITL, slo.itl),
            *_targets(Latency.E2E, slo.e2e_latency),
        ),
        max_error_share=None if slo.error_rate_permille is None else slo.error_rate_permille / 1000,
        min_output_tokens_per_second=float(slo.output_tokens_per_second) if slo.output_tokens_per_second else None,
    )


def config_of(spec: Spec) -> EngineConfig:
    """The configuration that the user asks for."""
    return spec.engine.config.to_config()


def quality_budget_of(spec: Spec) -> Budget:
    """How far outputs may be altered, as shares."""
    quality = spec.quality
    return Budget(
        perplexity_increase=quality.max_perplexity_increase_permille / 1000,
        disagreement=quality.max_disagreement_permille / 1000,
        length_change=quality.max_length_change_permille / 1000,
        failures=quality.max_failure_permille / 1000,
    )


def policy_of(
    spec: Spec, adopted: bool = False, replicas_owned_elsewhere: bool = False, *, replicas: int | None = None
) -> Policy:
    """What governs the rollout. `replicas`: those of the adopted workload, which the spec does not hold."""
    serving = spec.replicas if replicas is None else replicas
    return Policy(
        replicas=serving,
        canary_replicas=max(1, min(spec.rollout.canary_replicas, serving)),
        min_ready_deadline=float(spec.rollout.ready_deadline_seconds),
        judge_deadline=float(spec.rollout.judge_deadline_seconds),
        watch_seconds=float(spec.rollout.watch_seconds),
        interval=float(spec.tuning.interval_seconds),
        cooldown=float(spec.tuning.cooldown_seconds),
        max_attempts=spec.tuning.attempts_per_day,
        strategy=None if spec.rollout.strategy is Chosen.AUTO else Strategy(spec.rollout.strategy.value),
        shares=tuple(spec.rollout.steps or ()),
        share_seconds=float(spec.rollout.step_seconds),
        min_available=spec.rollout.min_available,
        drain_seconds=float(spec.rollout.drain_seconds),
        adopted=adopted,
        replicas_owned_elsewhere=replicas_owned_elsewhere,
    )


__all__ = [
    "PlanFacts",
    "Unreadable",
    "config_of",
    "plan_from",
    "plan_status",
    "plan_to",
    "policy_of",
    "quality_budget_of",
    "rollout_state_from",
    "rollout_state_to",
    "slo_of",
]

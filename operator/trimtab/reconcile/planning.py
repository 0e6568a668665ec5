"""Turns a diagnosis into an OptimizationPlan, and an OptimizationPlan into the next thing to try.

The planner keeps the current plan while it says nearly the same, so nothing is written while nothing happens, and the
plan that a person read is the plan that is approved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.api.convert import Unreadable, plan_from
from trimtab.api.names import DEPLOYMENT_LABEL
from trimtab.api.v1alpha1 import LLMDeployment, Mode
from trimtab.kube.client import Kube, Object
from trimtab.kube.kinds import OPTIMIZATION_PLANS
from trimtab.model.bottleneck import Health
from trimtab.model.config import content_hash
from trimtab.model.plan import NoPlan, Plan, Proposal
from trimtab.model.reading import Unknown
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, RolloutState, Wish
from trimtab.model.slo import Slo
from trimtab.model.snapshot import Snapshot
from trimtab.plan import Bounds, Objective, PlanRequest, propose
from trimtab.reconcile.limits import device_of
from trimtab.reconcile.wishes import wish_of_plan

PLANS_KEPT = 5
_ORDER = (Mode.OBSERVE, Mode.RECOMMEND, Mode.APPROVE, Mode.APPLY)
_ACTING = (Mode.APPROVE, Mode.APPLY)


@dataclass(frozen=True, slots=True)
class Planned:
    """What planning came to: a proposal, the wish that may be tried now, whether the plan is new, and whether it waits
    for a person.
    """

    proposal: Proposal
    wish: Wish | None = None
    is_new: bool = False
    awaits_approval: bool = False

    @property
    def intent(self) -> str:
        """What would be tried, without the figures that move: the configuration it starts from and the knobs."""
        if not isinstance(self.proposal, Plan):
            return ""
        return content_hash(self.proposal.start, sorted(self.proposal.optimizations[0].as_changes))


def patience(deployment: LLMDeployment) -> float:
    """Seconds for which a plan must be proposed before it is tried: load that has just changed shows half a window."""
    tuning = deployment.spec.tuning
    return max(2.0 * tuning.interval_seconds, tuning.window_seconds / 2)


def mode_of(deployment: LLMDeployment, max_mode: str) -> Mode:
    """The mode of the resource, limited by the administrator's kill switch."""
    return min(deployment.spec.tuning.mode, Mode(max_mode), key=_ORDER.index)


def consider(
    deployment: LLMDeployment,
    state: RolloutState,
    snapshot: Snapshot,
    health: Health,
    slo: Slo,
    known: Sequence[Object],
    mode: Mode,
) -> Planned:
    """The proposal for the stable revision; pure, and CPU work, so it runs off the event loop."""
    if state.phase is not Phase.STABLE or state.stable is None:
        return Planned(NoPlan(Reason.ROLLOUT_IN_PROGRESS, "No plan is made while a rollout is under way."))
    if mode is Mode.OBSERVE:
        return Planned(NoPlan(Reason.OBSERVE_ONLY, "The mode is Observe, so no plan is made."))
    if isinstance(snapshot.metrics, Unknown):
        return Planned(NoPlan(Reason.METRICS_MISSING, f"No plan is made without metrics: {snapshot.metrics.message}"))
    current = _current(known, deployment.status.get("plan"))
    proposal = propose(_request(deployment, state, snapshot, health, slo, current))
    if isinstance(proposal, NoPlan):
        return Planned(proposal)
    is_new = all(plan["metadata"]["name"] != proposal.name for plan in known)
    awaits = awaits_approval(deployment, proposal, mode)
    wish = wish_of_plan(proposal, state) if mode in _ACTING and not awaits else None
    return Planned(proposal, wish=wish, is_new=is_new, awaits_approval=awaits)


def _request(
    deployment: LLMDeployment,
    state: RolloutState,
    snapshot: Snapshot,
    health: Health,
    slo: Slo,
    current: Plan | None,
) -> PlanRequest:
    spec = deployment.spec
    knobs = spec.tuning.knobs
    if state.stable is None:
        raise ValueError("there is nothing to plan for before a revision is stable")
    return PlanRequest(
        namespace=deployment.metadata.namespace,
        target=deployment.metadata.name,
        engine=spec.engine.name,
        version=spec.engine.version,
        device=device_of(deployment),
        config=state.stable.config,
        snapshot=snapshot,
        health=health,
        stable=state.stable.revision,
        slo=slo,
        objective=Objective(spec.objective.value),
        allowed=frozenset(knobs.allowed or ()),
        locked=frozenset(knobs.locked or ()),
        bounds={name: Bounds(bound.minimum, bound.maximum) for name, bound in (knobs.bounds or {}).items()},
        min_improvement=spec.tuning.min_improvement_percent / 100,
        tried=tuple(attempt.config for attempt in state.attempts if attempt.revision in state.bad),
        replicas=spec.replicas,
        gpus_per_pod=spec.accelerator.count if spec.accelerator is not None else 0,
        profile=spec.tuning.profile,
        arguments=spec.engine.args or (),
        plan=current,
    )


def _current(known: Sequence[Object], name: str | None) -> Plan | None:
    for document in known:
        if document["metadata"]["name"] == name:
            plan = plan_from(document)
            return None if isinstance(plan, Unreadable) else plan
    return None


def awaits_approval(deployment: LLMDeployment, plan: Plan, mode: Mode) -> bool:
    """Whether a person must approve the plan before it is tried: in mode Approve, and for a step that alters outputs.

    `mode` is the one that holds, with the administrator's limit. Nothing measures the quality of answers yet, so no
    change of them is made without a person's word (promise 7).
    """
    needed = mode is Mode.APPROVE or (mode is Mode.APPLY and plan.optimizations[0].alters_outputs)
    return needed and deployment.spec.tuning.approved_plan != plan.name


async def read_plans(kube: Kube, deployment: LLMDeployment) -> list[Object]:
    """The OptimizationPlans of one LLMDeployment, newest first."""
    selector = f"{DEPLOYMENT_LABEL}={deployment.metadata.name}"
    plans = await kube.list(OPTIMIZATION_PLANS, deployment.metadata.namespace, selector)
    return sorted(plans, key=lambda plan: str(plan["metadata"].get("creationTimestamp") or ""), reverse=True)


async def forget_old_plans(kube: Kube, plans: Sequence[Object], keep: str) -> None:
    """Deletes all but the newest plans; the one in use stays."""
    for plan in plans[PLANS_KEPT:]:
        metadata = plan["metadata"]
        if metadata["name"] != keep:
            await kube.delete(OPTIMIZATION_PLANS, metadata["namespace"], metadata["name"], uid=metadata["uid"])

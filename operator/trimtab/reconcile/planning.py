"""Turns a diagnosis into an OptimizationPlan, and an OptimizationPlan into the next thing to try.

The planner keeps the current plan while it says nearly the same, so nothing is written while nothing happens, and the
plan that a person read is the plan that is approved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trimtab.api.convert import PlanFacts, Unreadable, plan_from, plan_status
from trimtab.api.names import DEPLOYMENT_LABEL
from trimtab.api.throughput import Carried
from trimtab.api.v1alpha1 import LLMDeployment, Mode
from trimtab.catalogue import quantization_named_in
from trimtab.kube.client import Kube, Object
from trimtab.kube.kinds import OPTIMIZATION_PLANS
from trimtab.model.bottleneck import Health
from trimtab.model.config import content_hash
from trimtab.model.plan import NoPlan, Plan, Proposal
from trimtab.model.reading import Unknown
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, RolloutState, Stable, Wish
from trimtab.model.slo import Slo
from trimtab.model.snapshot import Snapshot
from trimtab.plan import Bounds, Objective, PlanRequest, State, propose
from trimtab.reconcile import approvals
from trimtab.reconcile.limits import device_of, memory_limit_of
from trimtab.reconcile.shape import shape_of
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
    compared: bool = False  # the outputs of a trial can be compared with stable's
    known: tuple[Object, ...] = ()  # the OptimizationPlans that there were
    mode: Mode = Mode.OBSERVE  # the one that holds
    approval_problem: str = ""  # why an approval that was given leads to nothing, and the next step
    expired: Object | None = None  # the object that the plan takes the place of, under the same name

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
    """The mode of the resource, limited by the administrator's kill switch. Where fields had to be left aside, plans
    are shown and nothing is begun: one of them may have forbidden it.
    """
    most = Mode.RECOMMEND if deployment.left_aside else Mode.APPLY
    return min(deployment.spec.tuning.mode, Mode(max_mode), most, key=_ORDER.index)


def consider(
    deployment: LLMDeployment,
    state: RolloutState,
    snapshot: Snapshot,
    health: Health,
    slo: Slo,
    known: Sequence[Object],
    mode: Mode,
    target: Object | None = None,
    calibration: State | None = None,
    *,
    compared: bool = False,
) -> Planned:
    """The proposal for the stable revision; pure, and CPU work, so it runs off the event loop. `target`: the adopted
    Deployment, if there is one. `calibration`: what the cluster taught the performance model. `compared`: whether the
    outputs of a trial can be compared with stable's.
    """
    if state.phase is not Phase.STABLE or state.stable is None:
        return Planned(NoPlan(Reason.ROLLOUT_IN_PROGRESS, "No plan is made while a rollout is under way."))
    if mode is Mode.OBSERVE:
        return Planned(NoPlan(Reason.OBSERVE_ONLY, "The mode is Observe, so no plan is made."))
    if isinstance(snapshot.metrics, Unknown):
        return Planned(NoPlan(Reason.METRICS_MISSING, f"No plan is made without metrics: {snapshot.metrics.message}"))
    current = _current(known, deployment.status.get("plan"))
    request = replace(request_of(deployment, state, state.stable, snapshot), health=health, slo=slo, plan=current)
    limit = memory_limit_of(deployment, target)
    proposal = propose(replace(request, memory_limit_bytes=limit, calibration=calibration))
    if isinstance(proposal, NoPlan):
        return Planned(proposal, approval_problem=approvals.of_another(deployment, state, known, mode, None))
    is_new = all(plan["metadata"]["name"] != proposal.name for plan in known)
    alters = proposal.optimizations[0].alters_outputs
    awaits = awaits_approval(deployment, proposal.name, mode, unguarded=alters and not compared)
    expired = approvals.expired(deployment, known, proposal.name, snapshot.at)
    if expired is not None and deployment.spec.tuning.approved_plan != proposal.name:
        # Nobody's word is bound to it: it is made anew, as of now.
        return Planned(proposal, is_new=True, awaits_approval=awaits, expired=expired)
    problem = approvals.of_another(deployment, state, known, mode, proposal.name)
    if expired is not None:
        problem = approvals.of_an_expired(deployment, proposal.name)
    wish = wish_of_plan(proposal, state) if mode in _ACTING and not awaits and expired is None else None
    return Planned(proposal, wish=wish, is_new=is_new, awaits_approval=awaits, approval_problem=problem)


def request_of(deployment: LLMDeployment, state: RolloutState, revision: Stable, snapshot: Snapshot) -> PlanRequest:
    """What the spec and the readings say of a revision; the diagnosis and the plan of now are added by whoever asks."""
    spec = deployment.spec
    knobs = spec.tuning.knobs
    return PlanRequest(
        namespace=deployment.metadata.namespace,
        target=deployment.metadata.name,
        engine=spec.engine.name,
        version=spec.engine.version,
        device=device_of(deployment),
        config=revision.config,
        snapshot=snapshot,
        health=Health(),
        stable=revision.revision,
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
        model=shape_of(deployment),
        model_quantization=quantization_named_in(spec.model.source or spec.model.name),
    )


def _current(known: Sequence[Object], name: str | None) -> Plan | None:
    for document in known:
        if document["metadata"]["name"] == name:
            plan = plan_from(document)
            return None if isinstance(plan, Unreadable) else plan
    return None


def awaits_approval(deployment: LLMDeployment, plan: str, mode: Mode, *, unguarded: bool) -> bool:
    """Whether a person must approve a plan before it is tried: in mode Approve, and where it is unguarded.

    `mode` is the one that holds, with the administrator's limit. `unguarded`: a step can alter outputs, and they cannot
    be compared here, so no change of them is made without a person's word (promise 7).
    """
    needed = mode is Mode.APPROVE or (mode is Mode.APPLY and unguarded)
    return needed and deployment.spec.tuning.approved_plan != plan


async def read_plans(kube: Kube, deployment: LLMDeployment) -> list[Object]:
    """The OptimizationPlans of one LLMDeployment, newest first."""
    selector = f"{DEPLOYMENT_LABEL}={deployment.metadata.name}"
    plans = await kube.list(OPTIMIZATION_PLANS, deployment.metadata.namespace, selector)
    return sorted(plans, key=lambda plan: str(plan["metadata"].get("creationTimestamp") or ""), reverse=True)


async def write_results(
    kube: Kube,
    deployment: LLMDeployment,
    state: RolloutState,
    planned: Planned,
    current: str,
    now: float,
    carried: Carried | None = None,
) -> None:
    """Writes the status of each plan of which there is something new to say. `current`: the name of the newest;
    `carried`: by the revision that serves alone.
    """
    for document in planned.known:
        metadata, steps = document["metadata"], document["spec"]["optimizations"]
        name, alters_outputs = metadata["name"], bool(steps[0].get("altersOutputs"))
        facts = PlanFacts(
            state=state,
            current=name == current,
            approved=name == deployment.spec.tuning.approved_plan,
            awaits=awaits_approval(deployment, name, planned.mode, unguarded=alters_outputs and not planned.compared),
            carried=carried,
        )
        status = plan_status(document, facts, now)
        if status != document.get("status"):
            where = {"name": name, "namespace": metadata["namespace"]}
            await kube.apply(
                OPTIMIZATION_PLANS, {"metadata": where, "status": status}, force=True, subresource="status"
            )


async def forget_expired(kube: Kube, planned: Planned) -> None:
    """Deletes the object whose place a plan of the same name takes: what is made anew counts from now."""
    if planned.expired is not None:
        metadata = planned.expired["metadata"]
        await kube.delete(OPTIMIZATION_PLANS, metadata["namespace"], metadata["name"], uid=metadata["uid"])


async def forget_old_plans(kube: Kube, plans: Sequence[Object], keep: str) -> None:
    """Deletes all but the newest plans; the one in use stays."""
    for plan in plans[PLANS_KEPT:]:
        metadata = plan["metadata"]
        if metadata["name"] != keep:
            await kube.delete(OPTIMIZATION_PLANS, metadata["namespace"], metadata["name"], uid=metadata["uid"])

"""One cycle for one LLMDeployment: gather facts, analyse, judge, plan, step, write status, perform.

The new state is written before its actions are performed, and every phase asks for all that should exist, so a crash
between any two writes is repaired by the next cycle (promise 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from trimtab.analyse import Limits, diagnose, pods_needed
from trimtab.api.convert import Unreadable, config_of, policy_of, rollout_state_from, rollout_state_to, slo_of
from trimtab.api.names import selector_labels, selector_text
from trimtab.api.v1alpha1 import FieldConflicts, LLMDeployment
from trimtab.catalogue import ENGINES, EngineCatalogue, find_engine
from trimtab.kube.client import Object
from trimtab.kube.errors import Forbidden, KubeError
from trimtab.kube.kinds import LLM_DEPLOYMENTS, OPTIMIZATION_PLANS
from trimtab.model.bottleneck import Health
from trimtab.model.plan import Plan
from trimtab.model.reading import Known
from trimtab.model.reason import Reason
from trimtab.model.rollout import (
    Action,
    Announce,
    RevisionFacts,
    RolloutFacts,
    RolloutState,
    Wish,
)
from trimtab.model.snapshot import Snapshot
from trimtab.model.verdict import Verdict
from trimtab.reconcile import adoption, calibration, judging, planning, status
from trimtab.reconcile.carried import carried
from trimtab.reconcile.limits import limits_of
from trimtab.reconcile.live import with_live
from trimtab.reconcile.measuring import measure
from trimtab.reconcile.memory import Key
from trimtab.reconcile.perform import TemplateLostError, forbidden, perform, performing_failed
from trimtab.reconcile.quality import Gate, Outputs, outputs_of, read_gate
from trimtab.reconcile.routes import ContestedError
from trimtab.reconcile.spec_checks import Problem, Subject, problem_of
from trimtab.reconcile.steps import Steps
from trimtab.reconcile.windows import window_facts
from trimtab.reconcile.wishes import alters_outputs, is_live, wish_of_user
from trimtab.reconcile.workloads import Workloads, read_workloads
from trimtab.reconcile.world import World
from trimtab.render import RenderError, plan_object, target_template_hash, template_hash
from trimtab.rollout import next_wake, step


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that one cycle decides upon, gathered once."""

    raw: Mapping[str, Any]
    deployment: LLMDeployment
    engine: EngineCatalogue
    state: RolloutState
    workloads: Workloads
    template: str
    user: Wish
    revisions: Mapping[str, RevisionFacts]
    snapshot: Snapshot
    trial: judging.Trial | None  # what is judged, since it serves
    gate: Gate
    plans: Sequence[Object]  # the OptimizationPlans that there are, newest first


async def cycle(key: Key, world: World) -> float | None:
    """Reconcile one resource. Returns the seconds until the next call; None when the resource is gone."""
    raw = await world.kube.get(LLM_DEPLOYMENTS, key.namespace, key.name)
    if raw is None or raw["metadata"].get("deletionTimestamp"):
        world.memory.forget(key)
        world.comparisons.forget(key)
        world.telemetry.forget(key.namespace, key.name)
        return None
    try:
        return await _cycle(key, raw, world)
    except Forbidden as error:
        await _say_forbidden(key, error, world)
        raise


async def _cycle(key: Key, raw: Mapping[str, Any], world: World) -> float:
    steps = Steps(key, world.telemetry, world.tracing)
    with steps("gather"):
        found = await _gather(key, raw, world)
    if isinstance(found, status.Report):
        await _publish(key, raw, found, world)
        steps.log(found)
        return world.settings.resync
    with steps("analyse"):
        health = await asyncio.to_thread(_diagnose, found)
    with steps("judge"):
        verdict = await asyncio.to_thread(judging.judged, found.trial)
        outputs = outputs_of(
            key, found.deployment, found.state, found.revisions, found.snapshot, found.gate, world.comparisons
        )
    with steps("plan"):
        planned = await _plan(found, health, world)
        await _learn(found, verdict, world)
    with steps("step"):
        state, actions = step(found.state, _rollout_facts(found, planned.wish, verdict, health, outputs), world.now())
    report = _report(found, state, health, planned, world.memory.obstacles.of(key))
    with steps("status"):
        await _publish(key, raw, report, world)
        alone = carried(found.state, found.snapshot)
        await planning.write_results(world.kube, found.deployment, state, planned, report.plan_name, world.now(), alone)
        await _announce(raw, actions, world)
    with steps("perform"):
        obstacle = world.memory.obstacles.met(key, await _perform(found, actions, world))
    if obstacle != report.problem:
        report = await _publish_obstacle(key, report, obstacle, world)
    for judged in (verdict, outputs.verdict):
        if judged is not None:
            world.telemetry.judged(judged.call.value, judged.reason.value)
    world.telemetry.phase(key.namespace, key.name, state.phase.value)
    steps.log(report)
    wake = next_wake(state, policy_of(found.deployment.spec), world.now())
    return wake if found.trial is None else min(wake, found.trial.next_look(world.now()))


async def _plan(facts: Facts, health: Health, world: World) -> planning.Planned:
    """What is proposed; a new plan becomes an object before anything refers to it."""
    mode = planning.mode_of(facts.deployment, world.settings.max_mode)
    known = facts.plans
    slo = slo_of(facts.deployment.spec)
    planned = await asyncio.to_thread(
        planning.consider,
        facts.deployment,
        facts.state,
        facts.snapshot,
        health,
        slo,
        known,
        mode,
        facts.workloads.target,
        await world.calibration.load(world.kube, world.settings, world.now()),
        compared=facts.gate.can_run,
    )
    lasting = world.memory.lasting(
        Key(facts.deployment.metadata.namespace, facts.deployment.metadata.name), planned.intent, world.now()
    )
    planned = replace(planned, known=tuple(known), mode=mode, compared=facts.gate.can_run)
    if lasting < planning.patience(facts.deployment):
        planned = replace(planned, wish=None)
    if isinstance(planned.proposal, Plan) and planned.is_new:
        await planning.forget_expired(world.kube, planned)
        body = plan_object(facts.deployment, planned.proposal)
        await world.kube.apply(OPTIMIZATION_PLANS, body, force=True)
        await planning.forget_old_plans(world.kube, known, planned.proposal.name)
        world.telemetry.planned("proposed")
    return planned


async def _learn(facts: Facts, verdict: Verdict | None, world: World) -> None:
    """The performance model learns from what was seen. No decision of this cycle rests on it."""
    if await world.calibration.load(world.kube, world.settings, world.now()) is None:
        return
    found = calibration.seen(facts.state, facts.snapshot, verdict)
    requests = (planning.request_of(facts.deployment, facts.state, *revision) for revision in found)
    await world.calibration.learn(requests)
    await world.calibration.store(world.kube, world.settings, world.now())


async def _gather(key: Key, raw: Mapping[str, Any], world: World) -> Facts | status.Report:
    """The facts, or the report of a problem that leaves nothing to decide."""
    try:
        deployment = LLMDeployment.read(raw)
    except ValidationError as error:
        return _unreadable_spec(raw, error)
    neighbours = await world.memory.neighbours.read(world.kube, key.namespace, world.now())
    workloads = await read_workloads(world.kube, deployment, neighbours, clusterwide=not world.settings.namespaces)
    if deployment.spec.target_ref is not None:
        # Also for one that does not exist yet: its creation must wake this resource.
        world.memory.adopted[key.namespace, deployment.spec.target_ref.name] = key
    engine = find_engine(deployment.spec.engine.name)
    subject = Subject(
        deployment=deployment,
        engine=engine,
        engines=tuple(ENGINES),
        target=workloads.target,
        siblings=workloads.siblings,
    )
    problem = problem_of(subject)
    if problem is not None or engine is None:
        return status.Report(deployment=deployment, problem=problem)
    held = rollout_state_from(deployment.status)
    if isinstance(held, Unreadable):
        message = (
            f"{held.message}. Trimtab changes nothing until it can be read: use the operator version that wrote it, "
            "or remove status.rollout and status.attempts to begin anew from the spec."
        )
        return status.Report(deployment=deployment, problem=Problem(Reason.INVALID_SPEC, message))
    template = (
        template_hash(deployment) if workloads.target is None else target_template_hash(deployment, workloads.target)
    )
    user, revisions = _identify(deployment, held, workloads, template)
    if adoption.followed(held, revisions) is not held:
        held = adoption.followed(held, revisions)
        user, revisions = _identify(deployment, held, workloads, template)
    version = deployment.spec.engine.version
    user = replace(
        user,
        alters_outputs=alters_outputs(engine, version, user, held),
        live=is_live(engine, version, user, held),
    )
    gate = await read_gate(world.kube, deployment, engine, workloads.target)
    snapshot = await measure(key, deployment, revisions, workloads, world)
    revisions = with_live(revisions, snapshot, engine)
    plans = await planning.read_plans(world.kube, deployment)
    trial = await judging.read_trial(key, deployment, held, revisions, snapshot, plans, workloads.route_facts, world)
    return Facts(
        raw=raw,
        deployment=deployment,
        engine=engine,
        state=held,
        workloads=workloads,
        template=template,
        user=user,
        revisions=revisions,
        snapshot=snapshot,
        trial=trial,
        gate=gate,
        plans=plans,
    )


def _unreadable_spec(raw: Mapping[str, Any], error: ValidationError) -> status.Report:
    """A spec that was admitted by another version of the CRD: reported by field, on a resource without it."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    bare = LLMDeployment.model_construct(
        metadata=LLMDeployment.model_fields["metadata"].annotation(**_metadata(raw)),  # type: ignore[misc]
        status=dict(raw.get("status") or {}),
    )
    return status.Report(deployment=bare, problem=Problem(Reason.INVALID_SPEC, f"{place}: {first['msg']}"))


def _metadata(raw: Mapping[str, Any]) -> dict[str, Any]:
    metadata = raw["metadata"]
    return {"name": metadata["name"], "namespace": metadata["namespace"], "generation": metadata.get("generation", 0)}


def _identify(
    deployment: LLMDeployment, state: RolloutState, workloads: Workloads, template: str
) -> tuple[Wish, dict[str, RevisionFacts]]:
    """What the user wants to run, and every revision that there is."""
    revisions = workloads.facts(state, template)
    if workloads.target is None:
        return wish_of_user(config_of(deployment.spec), template, state), revisions
    return adoption.identify(deployment, state, workloads.target, template, revisions)


def _diagnose(facts: Facts) -> Health:
    stable = facts.state.stable
    revision = stable.revision if stable is not None else facts.user.revision
    return diagnose(facts.snapshot, slo_of(facts.deployment.spec), revision, _limits(facts))


def _limits(facts: Facts) -> Limits:
    stable = facts.state.stable
    config = stable.config if stable is not None else facts.user.config
    return limits_of(facts.engine, facts.deployment, config)


def _rollout_facts(
    facts: Facts, planned: Wish | None, verdict: Verdict | None, health: Health, outputs: Outputs
) -> RolloutFacts:
    deployment, spec = facts.deployment, facts.deployment.spec
    free = facts.workloads.cluster.gpus_free
    target = facts.workloads.target
    policy = policy_of(
        spec,
        deployment.adopted,
        facts.workloads.scaled_elsewhere,
        replicas=None if target is None else int(target["spec"].get("replicas", 1)),
    )
    # Also what has been promoted and is watched is still the candidate.
    candidate = facts.state.candidate.revision if facts.state.candidate is not None else ""
    needed = pods_needed(facts.snapshot, _limits(facts), slo_met=health.slo_met)
    return RolloutFacts(
        policy=policy,
        revisions=facts.revisions,
        user=facts.user,
        user_config=adoption.user_config(deployment, facts.state),
        planned=_live_or_not(facts, planned),
        verdict=verdict,
        quality=outputs.verdict,
        quality_needed=outputs.needed,
        gpus_free=free.value if isinstance(free, Known) else None,
        gpus_per_pod=spec.accelerator.count if spec.accelerator is not None else 0,
        paused=deployment.paused,
        suspended=spec.suspend,
        abort=bool(candidate) and deployment.rollback == candidate,
        pods_admitted=facts.workloads.pods_admitted,
        pods_needed=needed.value if isinstance(needed, Known) else None,
        pods_protected=facts.workloads.pods_protected,
        served=facts.workloads.served,
        route=facts.workloads.route_facts,
        revision_scaler=facts.workloads.revision_scaler,
        window=window_facts(spec.tuning.windows, facts.snapshot.at),
        retry=deployment.retry,
        git_owner=facts.workloads.git_owner if _refuses_conflicts(deployment) else "",
    )


def _live_or_not(facts: Facts, planned: Wish | None) -> Wish | None:
    if planned is None:
        return None
    return replace(planned, live=is_live(facts.engine, facts.deployment.spec.engine.version, planned, facts.state))


def _refuses_conflicts(deployment: LLMDeployment) -> bool:
    reference = deployment.spec.target_ref
    return reference is not None and reference.field_conflicts is FieldConflicts.REFUSE


def _report(
    facts: Facts, state: RolloutState, health: Health, planned: planning.Planned, obstacle: Problem | None
) -> status.Report:
    held = rollout_state_to(state)
    name = facts.deployment.metadata.name
    return status.Report(
        deployment=facts.deployment,
        problem=obstacle,
        state=state,
        rollout=held["rollout"],
        attempts=held["attempts"],
        revisions=facts.revisions,
        snapshot=facts.snapshot,
        health=health,
        gate=facts.gate,
        route=facts.workloads.route.told if facts.workloads.route is not None else None,
        proposal=planned.proposal,
        plan_name=planned.proposal.name
        if isinstance(planned.proposal, Plan)
        else facts.deployment.status.get("plan", ""),
        awaits_approval=planned.awaits_approval,
        approval_problem=planned.approval_problem,
        selector=selector_text(selector_labels(name)),
    )


async def _publish(key: Key, raw: Mapping[str, Any], report: status.Report, world: World) -> None:
    """Write the status when it says something new; a change of mood alone must last before it counts."""
    before = raw.get("status") or {}
    after = status.status_of(report, world.now())
    if not world.memory.should_write(key, before, after):
        return
    metadata = {"name": key.name, "namespace": key.namespace}
    await world.kube.apply(LLM_DEPLOYMENTS, {"metadata": metadata, "status": after}, force=True, subresource="status")


async def _announce(raw: Mapping[str, Any], actions: tuple[Action, ...], world: World) -> None:
    for action in actions:
        if isinstance(action, Announce):
            say = world.events.warning if action.warning else world.events.normal
            await say(raw, action.reason.value, action.message)


async def _perform(facts: Facts, actions: tuple[Action, ...], world: World) -> Problem | None:
    """Carry the actions out. Returns what a person must mend; everything else is raised, to be tried again."""
    try:
        await perform(
            world.kube, facts.deployment, facts.workloads, facts.template, actions, world.memory.weighing, world.now()
        )
    except (KubeError, RenderError, TemplateLostError, ContestedError) as error:
        problem = performing_failed(error)
        if problem is None:
            raise
        return problem
    return None


async def _say_forbidden(key: Key, error: Forbidden, world: World) -> None:
    """What may not be read or written is a condition, where at least the status may be written."""
    problem = world.memory.obstacles.ended_by(key, forbidden(error))
    if problem is None:
        return
    with suppress(KubeError, ValidationError):
        raw = await world.kube.get(LLM_DEPLOYMENTS, key.namespace, key.name)
        if raw is not None:
            deployment = LLMDeployment.read(raw)
            await _publish(key, raw, status.Report(deployment=deployment, problem=problem), world)


async def _publish_obstacle(key: Key, report: status.Report, obstacle: Problem | None, world: World) -> status.Report:
    """Say that performing failed, or no longer does."""
    report = replace(report, problem=obstacle)
    raw = await world.kube.get(LLM_DEPLOYMENTS, key.namespace, key.name)
    if raw is not None:
        deployment = LLMDeployment.read(raw)
        await _publish(key, raw, replace(report, deployment=deployment), world)
    return report

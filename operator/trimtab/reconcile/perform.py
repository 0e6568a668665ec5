"""Carries out what the rollout asked for: renders objects and applies what differs, one writer per field.

A revision's pod template is written once, when its Deployment is created, and never again, so neither an upgrade of the
operator nor an edit of the spec can restart pods that serve. Replicas have a field manager of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.api.names import DEPLOYMENT_LABEL
from trimtab.api.v1alpha1 import FieldConflicts, LLMDeployment
from trimtab.kube.client import Kube
from trimtab.kube.errors import Conflict, Forbidden, Invalid, KubeError
from trimtab.kube.kinds import DEPLOYMENTS, SERVICES
from trimtab.model.reason import Reason
from trimtab.model.rollout import (
    Action,
    Announce,
    EnsureRevision,
    ReconfigureTarget,
    RemoveRevision,
    ServeOnly,
    ShareTraffic,
    TuneLive,
)
from trimtab.reconcile.live import tune
from trimtab.reconcile.routes import ContestedError, Weighing, share_traffic
from trimtab.reconcile.spec_checks import Problem
from trimtab.reconcile.workloads import Workloads
from trimtab.render import RenderError, canary_of, route_services, target_patch
from trimtab.render import deployment as deployment_of
from trimtab.render import service as service_of

REPLICAS_MANAGER = "trimtab-replicas"


class TemplateLostError(RuntimeError):
    """A revision's Deployment is gone and the spec no longer describes its pods, so it cannot be made again."""


async def perform(
    kube: Kube,
    deployment: LLMDeployment,
    workloads: Workloads,
    template: str,
    actions: Sequence[Action],
    weighing: Weighing | None = None,
    now: float = 0.0,
) -> None:
    """Carry out every action that is not yet true. Announcements are left to the caller. `weighing`: what this process
    wrote into the route before.

    Weights that cannot be set keep no other action back: those that must wait for them do so by what the route shows.
    """
    only = next((action.revision for action in actions if isinstance(action, ServeOnly)), "")
    await ensure_service(kube, deployment, workloads, only)
    shares = next((action for action in actions if isinstance(action, ShareTraffic)), None)
    await ensure_route_services(kube, deployment, workloads, shares, only)
    refused: Exception | None = None
    if shares is not None and workloads.route is not None:
        try:
            await share_traffic(kube, deployment, workloads.route, shares, weighing or Weighing(), now)
        except (KubeError, ContestedError) as error:
            refused = error
    for action in actions:
        match action:
            case EnsureRevision():
                await _ensure(kube, deployment, workloads, template, action)
            case RemoveRevision():
                await _remove(kube, workloads, action.revision)
            case ReconfigureTarget():
                await _reconfigure(kube, deployment, workloads, action)
            case ServeOnly() | TuneLive() | ShareTraffic() | Announce():
                continue
    await tune(kube, deployment, workloads.pods, workloads.given, actions)
    if refused is not None:
        raise refused


def performing_failed(error: Exception) -> Problem | None:
    """The problem that a person must mend; None for a failure that trying again may cure."""
    match error:
        case Conflict() if error.managers:
            owners = ", ".join(error.managers)
            return Problem(
                Reason.FIELD_CONFLICT,
                f"{error} The field belongs to {owners}. Change it there, or set spec.targetRef.fieldConflicts to "
                "Override so that Trimtab takes the engine's arguments over.",
            )
        case Forbidden():
            return forbidden(error)
        case Invalid():
            return Problem(Reason.INVALID_SPEC, str(error))
        case ContestedError():
            return Problem(Reason.FIELD_CONFLICT, str(error))
        case RenderError():
            return Problem(error.reason, str(error))
        case TemplateLostError():
            return Problem(Reason.TARGET_NOT_FOUND, str(error))
        case _:
            return None


def forbidden(error: Forbidden) -> Problem:
    """What the role of the operator, or a policy of the cluster, does not allow. The error names verb and resource."""
    return Problem(
        Reason.FORBIDDEN,
        f"{error} Trimtab goes on as far as it can, and tries again. If its role lacks the verb, upgrade the chart's "
        "release with rbac.create=true, or grant it; if a policy refused the object, the message says which.",
    )


async def ensure_service(kube: Kube, deployment: LLMDeployment, workloads: Workloads, only: str = "") -> None:
    """One Service over all revisions of an owned workload, or over the pods of the one that alone has the traffic."""
    if deployment.adopted:
        return
    await _ensure_service(kube, workloads.service, service_of(deployment, only))


async def ensure_route_services(
    kube: Kube, deployment: LLMDeployment, workloads: Workloads, shares: ShareTraffic | None, only: str = ""
) -> None:
    """The Services behind a route. Where there is no route any more they select all, so that its weights do not matter.

    A Service of the same name that is somebody else's is left alone; the route's condition says so.
    """
    route = workloads.route
    if route is None or (shares is None and route.facts is not None):
        return
    stable, canary = (shares.stable, shares.canary) if shares is not None else (only, only)
    for wanted in route_services(deployment, stable, canary):
        live = route.services.get(wanted["metadata"]["name"])
        if live is None and shares is None:
            continue
        labels = {} if live is None else live["metadata"].get("labels") or {}
        if live is None or labels.get(DEPLOYMENT_LABEL) == deployment.metadata.name:
            await _ensure_service(kube, live, wanted)


async def _ensure_service(kube: Kube, live: Mapping[str, Any] | None, wanted: dict[str, Any]) -> None:
    # A selector that selects more narrowly contains the wanted one, and is not the same.
    same = live is not None and live["spec"].get("selector") == wanted["spec"]["selector"]
    if live is None or not same or not _contains(live["spec"], wanted["spec"]):
        await kube.apply(SERVICES, wanted, force=True)


async def _ensure(
    kube: Kube, deployment: LLMDeployment, workloads: Workloads, template: str, action: EnsureRevision
) -> None:
    live = workloads.deployments.get(action.workload)
    if live is None:
        if action.replicas == 0:
            return  # A Deployment is created without a number, and would begin with one pod.
        if action.template != template:
            raise TemplateLostError(
                f"The Deployment of revision {action.revision} is gone, and the spec describes other pods since."
            )
        live = await kube.apply(DEPLOYMENTS, _rendered(deployment, workloads, action), force=True)
    replicas = (live.get("spec") or {}).get("replicas")
    if action.replicas is not None and replicas != action.replicas:
        await _scale(kube, live, action.replicas)


def _rendered(deployment: LLMDeployment, workloads: Workloads, action: EnsureRevision) -> dict[str, Any]:
    if workloads.target is not None:
        return canary_of(workloads.target, deployment, action.revision, action.config, None)
    return deployment_of(deployment, action.workload, action.config, None, action.revision)


async def _scale(kube: Kube, live: Mapping[str, Any], replicas: int) -> None:
    metadata = {"name": live["metadata"]["name"], "namespace": live["metadata"]["namespace"]}
    body = {"metadata": metadata, "spec": {"replicas": replicas}}
    await kube.apply(DEPLOYMENTS, body, force=True, manager=REPLICAS_MANAGER)


async def _remove(kube: Kube, workloads: Workloads, revision: str) -> None:
    live = workloads.deployments.get(revision)
    if live is not None:
        metadata = live["metadata"]
        await kube.delete(DEPLOYMENTS, metadata["namespace"], metadata["name"], uid=metadata["uid"])


async def _reconfigure(kube: Kube, deployment: LLMDeployment, workloads: Workloads, action: ReconfigureTarget) -> None:
    """The planned fields of the user's workload alone; without `Override` another owner of them is a Conflict."""
    reference = deployment.spec.target_ref
    if reference is None or workloads.target is None:
        return
    patch = target_patch(workloads.target, deployment, action.config)
    if _contains(workloads.target, {"spec": patch["spec"]}):
        return
    await kube.apply(DEPLOYMENTS, patch, force=reference.field_conflicts is FieldConflicts.OVERRIDE)


def _contains(live: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` stands in `live`; the API server adds defaults that nobody asked for."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(_contains(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list) and wanted and all(isinstance(item, Mapping) and "name" in item for item in wanted):
        # A list of named items is merged by the API server: others may stand beside those that we ask for.
        named = {item.get("name"): item for item in live or () if isinstance(item, Mapping)}
        return all(_contains(named.get(item["name"]), item) for item in wanted)
    return json.dumps(live, sort_keys=True) == json.dumps(wanted, sort_keys=True)

"""The workloads of one LLMDeployment as the cluster has them now: read once per cycle, then only looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from trimtab.api.names import CONFIG_ANNOTATION, DEPLOYMENT_LABEL, REVISION_LABEL, revision_name
from trimtab.api.v1alpha1 import EngineKnobs, LLMDeployment
from trimtab.kube.client import Kube, Object
from trimtab.kube.errors import Forbidden
from trimtab.kube.kinds import DEPLOYMENTS, LLM_DEPLOYMENTS, NODES, PODS, SERVICES
from trimtab.model.reading import Unknown, Why
from trimtab.model.rollout import RevisionFacts, RolloutState, RouteFacts, Stable
from trimtab.model.snapshot import ClusterFacts, PodFacts
from trimtab.observe.cluster import gpus, pod_facts, revision_facts
from trimtab.reconcile.live import Given, attributed, given_of, owner_of
from trimtab.reconcile.neighbours import ALONE, Neighbours, git_owner, pods_admitted, pods_protected, scaler_of
from trimtab.reconcile.routes import Route, read_route, selected_revision


@dataclass(frozen=True, slots=True)
class Workloads:
    """`deployments` are the owned ones by revision; `target` is the adopted one."""

    deployments: Mapping[str, Object]
    pods: Sequence[PodFacts]
    target: Object | None
    service: Object | None
    siblings: Sequence[Object]
    scaled_elsewhere: bool
    cluster: ClusterFacts
    pods_admitted: int | None = None  # further pods like these that the quotas admit; None: no quota, or unknown
    pods_protected: int = 0  # ready pods that PodDisruptionBudgets ask for
    git_owner: str = ""  # the tool that applies the adopted workload from a repository
    route: Route | None = None  # what shares the traffic by weight
    revision_scaler: str = ""  # an autoscaler that points at one of the owned revisions, and the way out
    given: Mapping[str, Given] = field(default_factory=dict)  # by the name of the pod: its live values

    @property
    def served(self) -> str:
        """The revision whose pods alone the Service selects; empty when it selects all."""
        return selected_revision(self.service)

    @property
    def route_facts(self) -> RouteFacts | None:
        """None where no route shares the traffic."""
        return self.route.facts if self.route is not None else None

    def facts(self, state: RolloutState, template: str) -> dict[str, RevisionFacts]:
        """Every owned revision; also those of which only pods are left, or that share another one's workload.

        `template`: the hash of what the spec asks for now.
        """
        by_revision: dict[str, list[PodFacts]] = {}
        for pod in self.pods:
            given = self.given.get(pod.name)
            revision = attributed(state, given) if given is not None else pod.revision
            by_revision.setdefault(revision, []).append(replace(pod, revision=revision, carrier=pod.revision))
        found = {
            (name := owner_of(state, workload)): replace(
                revision_facts(deployment, by_revision.pop(name, []), revision=name),
                made_for=made_for(deployment, workload, template),
            )
            for workload, deployment in self.deployments.items()
        }
        for revision, left in by_revision.items():
            found[revision] = RevisionFacts(revision, desired=0, pods=tuple(left))
        return found


async def read_workloads(
    kube: Kube, deployment: LLMDeployment, neighbours: Neighbours = ALONE, *, clusterwide: bool
) -> Workloads:
    """Everything that a cycle needs to know of the cluster; `neighbours`: of the namespace."""
    namespace, name = deployment.metadata.namespace, deployment.metadata.name
    selector = f"{DEPLOYMENT_LABEL}={name}"
    owned = await kube.list(DEPLOYMENTS, namespace, selector)
    pods = await kube.list(PODS, namespace, selector)
    target, target_pods, siblings = await _adopted(kube, deployment)
    deployments = {item["metadata"]["labels"][REVISION_LABEL]: item for item in owned if _is_revision(item)}
    named = [pod_facts(pod, str(pod["metadata"]["labels"].get(REVISION_LABEL) or "")) for pod in pods]
    reference = deployment.spec.target_ref
    like = next(iter([*target_pods, *pods]), None)
    scaled_revision = _scaled_revision(deployments.values(), neighbours, name)
    return Workloads(
        deployments=deployments,
        pods=[*named, *(pod_facts(pod, "") for pod in target_pods)],
        target=target,
        service=None if deployment.adopted else await kube.get(SERVICES, namespace, name),
        siblings=siblings,
        scaled_elsewhere=bool(scaled_revision)
        or (reference is not None and bool(scaler_of(neighbours.autoscalers, reference.name))),
        cluster=await _cluster_facts(kube, deployment, clusterwide=clusterwide),
        pods_admitted=pods_admitted(neighbours.quotas, like),
        pods_protected=pods_protected(neighbours.budgets, (like or {}).get("metadata", {}).get("labels") or {}),
        git_owner=git_owner(target),
        route=await read_route(kube, deployment),
        revision_scaler=scaled_revision,
        given={pod["metadata"]["name"]: given_of(pod) for pod in pods},
    )


def made_for(owned: Object, revision: str, template: str) -> Stable | None:
    """What a revision's Deployment was made for, by its annotation; None for one that cannot be read.

    Its own template is `template` where the two have the revision's name, and is not known otherwise.
    """
    annotation = (owned["metadata"].get("annotations") or {}).get(CONFIG_ANNOTATION, "")
    try:
        config = EngineKnobs.model_validate_json(annotation).to_config()
    except ValidationError:
        return None
    same = revision_name(config, template) == revision
    return Stable(revision, config, template if same else "")


def _scaled_revision(owned: Iterable[Object], neighbours: Neighbours, name: str) -> str:
    """What to say of an autoscaler that points at one revision: at a promotion it would lose what it scales."""
    for found in owned:
        workload = found["metadata"]["name"]
        scaler = scaler_of(neighbours.autoscalers, workload)
        if scaler:
            return (
                f"{scaler} points at Deployment {workload}, one revision of this resource, and would be left behind by "
                f"a promotion. Point its scaleTargetRef at the LLMDeployment {name} (apiVersion trimtab.dev/v1alpha1)."
            )
    return ""


def _is_revision(item: Mapping[str, Any]) -> bool:
    return bool((item["metadata"].get("labels") or {}).get(REVISION_LABEL))


async def _adopted(kube: Kube, deployment: LLMDeployment) -> tuple[Object | None, list[Object], list[Object]]:
    """The adopted Deployment, its own pods (not those of a trial), and the namespace's other LLMDeployments."""
    reference = deployment.spec.target_ref
    if reference is None:
        return None, [], []
    namespace = deployment.metadata.namespace
    siblings = await kube.list(LLM_DEPLOYMENTS, namespace)
    target = await kube.get(DEPLOYMENTS, namespace, reference.name)
    if target is None:
        return None, [], siblings
    labels = (target["spec"]["selector"].get("matchLabels") or {}).items()
    selector = ",".join([*(f"{key}={value}" for key, value in sorted(labels)), f"!{REVISION_LABEL}"])
    return target, await kube.list(PODS, namespace, selector), siblings


async def _cluster_facts(kube: Kube, deployment: LLMDeployment, *, clusterwide: bool) -> ClusterFacts:
    accelerator = deployment.spec.accelerator
    if accelerator is None:
        return ClusterFacts()
    if not clusterwide:
        unknown = Unknown(Why.NOT_EXPORTED, "A namespaced installation may not read nodes, so free GPUs are unknown.")
        return ClusterFacts(gpus_free=unknown, gpus_total=unknown)
    try:
        nodes, pods = await kube.list(NODES), await kube.list(PODS)
    except Forbidden as error:
        unknown = Unknown(Why.NOT_EXPORTED, str(error))
        return ClusterFacts(gpus_free=unknown, gpus_total=unknown)
    return gpus(nodes, pods, accelerator.resource_name)

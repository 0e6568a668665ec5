"""The readings of one deployment over the tuning window, as a snapshot."""

from __future__ import annotations

from collections.abc import Mapping

from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.reading import Known, Unknown, Why
from trimtab.model.rollout import RevisionFacts
from trimtab.model.snapshot import ObservedPod, PodMetrics, RevisionView, Snapshot
from trimtab.observe.gather import Target
from trimtab.reconcile.memory import Key
from trimtab.reconcile.workloads import Workloads
from trimtab.reconcile.world import World


def target_of(key: Key, deployment: LLMDeployment, pods: tuple[str, ...]) -> Target:
    """These pods of a deployment, for asking Prometheus."""
    engine = deployment.spec.engine
    return Target(namespace=key.namespace, name=key.name, engine=engine.name, version=engine.version, pods=pods)


async def measure(
    key: Key,
    deployment: LLMDeployment,
    revisions: Mapping[str, RevisionFacts],
    workloads: Workloads,
    world: World,
) -> Snapshot:
    """Readings of every pod that there is."""
    pods = tuple(pod.name for facts in revisions.values() for pod in facts.pods)
    window, now = float(deployment.spec.tuning.window_seconds), world.now()
    target = target_of(key, deployment, pods)
    read = await world.metrics_reader.read(target, window) if target.pods else None
    if read is None:
        available: Known[bool] | Unknown = Unknown(Why.NOT_SCRAPED, "There are no pods to read metrics from yet.")
        found: Mapping[str, PodMetrics] = {}
    else:
        available, found = read.overall, read.pods
    views = tuple(
        RevisionView(
            revision,
            tuple(ObservedPod(pod, found.get(pod.name, PodMetrics())) for pod in facts.pods),
        )
        for revision, facts in sorted(revisions.items())
    )
    return Snapshot(
        namespace=target.namespace,
        name=target.name,
        at=now,
        window=window,
        engine=deployment.spec.engine.name,
        engine_version=deployment.spec.engine.version,
        revisions=views,
        metrics=available,
        cluster=workloads.cluster,
    )

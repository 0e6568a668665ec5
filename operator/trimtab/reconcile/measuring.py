"""The readings of one deployment as snapshots: over the tuning window, and since something on trial serves."""

from __future__ import annotations

from collections.abc import Mapping

from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.reading import Known, Unknown, Why
from trimtab.model.rollout import Phase, RevisionFacts, RolloutState
from trimtab.model.snapshot import ObservedPod, PodMetrics, RevisionView, Snapshot
from trimtab.observe.gather import Target
from trimtab.reconcile.memory import Key
from trimtab.reconcile.workloads import Workloads
from trimtab.reconcile.world import World

_JUDGED = (Phase.CANARY_JUDGING, Phase.PROMOTING, Phase.WATCHING)


async def measure(
    key: Key,
    deployment: LLMDeployment,
    state: RolloutState,
    revisions: Mapping[str, RevisionFacts],
    workloads: Workloads,
    world: World,
) -> tuple[Snapshot, Snapshot | None]:
    """The readings over the tuning window, and while something is on trial those since it serves."""
    tuning = deployment.spec.tuning
    now = world.now()
    target = Target(
        namespace=key.namespace,
        name=key.name,
        engine=deployment.spec.engine.name,
        version=deployment.spec.engine.version,
        pods=tuple(pod.name for facts in revisions.values() for pod in facts.pods),
    )
    usual = await _snapshot(target, deployment, revisions, workloads, float(tuning.window_seconds), now, world)
    if state.phase not in _JUDGED or state.served_at is None:
        return usual, None
    # Counted in whole intervals, so that trials which began together are read together.
    elapsed = now - (state.since if state.phase is Phase.WATCHING else state.served_at)
    window = max(float(tuning.interval_seconds), float(int(elapsed)))
    window = min(window, float(max(deployment.spec.rollout.judge_deadline_seconds, tuning.window_seconds)))
    return usual, await _snapshot(target, deployment, revisions, workloads, window, now, world)


async def _snapshot(
    target: Target,
    deployment: LLMDeployment,
    revisions: Mapping[str, RevisionFacts],
    workloads: Workloads,
    window: float,
    now: float,
    world: World,
) -> Snapshot:
    read = await world.metrics_reader.read(target, window) if target.pods else None
    if read is None:
        available: Known[bool] | Unknown = Unknown(Why.NOT_SCRAPED, "There are no pods to read metrics from yet.")
        pods: Mapping[str, PodMetrics] = {}
    else:
        available, pods = read.overall, read.pods
    views = tuple(
        RevisionView(
            revision,
            tuple(ObservedPod(pod, pods.get(pod.name, PodMetrics())) for pod in facts.pods),
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

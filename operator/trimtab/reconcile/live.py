"""Live values of running pods: which pod has which revision's, whether they are in force, and how they are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimtab.api import names
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.catalogue import EngineCatalogue
from trimtab.kube.client import Kube
from trimtab.kube.errors import Conflict, NotFound
from trimtab.kube.kinds import PODS
from trimtab.model.reading import Known
from trimtab.model.rollout import Action, RevisionFacts, RolloutState, TuneLive
from trimtab.model.snapshot import Live, PodFacts, PodMetrics, Snapshot
from trimtab.render import live_annotations
from trimtab.render.workloads import catalogue_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a pod was given: the revision whose workload it belongs to, the annotations, and which pod it is."""

    carrier: str
    annotations: Mapping[str, str]
    uid: str

    @property
    def runs(self) -> str:
        """The revision whose values it was given: its own workload's where nothing else was said."""
        return self.annotations.get(names.RUNS_ANNOTATION) or self.carrier


def given_of(pod: Mapping[str, Any]) -> Given:
    """From a pod as the API server shows it."""
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    kept = {key: str(annotations[key]) for key in (names.LIVE_ANNOTATION, names.RUNS_ANNOTATION) if key in annotations}
    labels = metadata.get("labels") or {}
    return Given(
        carrier=str(labels.get(names.REVISION_LABEL) or ""), annotations=kept, uid=str(metadata.get("uid") or "")
    )


def owner_of(state: RolloutState, workload: str) -> str:
    """The revision that a workload stands for: the stable one that it carries, or the previous one, or its own."""
    for part in (state.stable, state.previous):
        if part is not None and part.workload == workload:
            return part.revision
    return workload


def attributed(state: RolloutState, given: Given) -> str:
    """The revision that a pod counts for. Values that no part of the state knows are those of the workload's owner."""
    known = {part.revision for part in (state.stable, state.previous) if part and part.workload == given.carrier}
    if state.candidate is not None and state.candidate.carrier == given.carrier:
        known.add(state.candidate.revision)
    return given.runs if given.runs in known else owner_of(state, given.carrier)


def with_live(
    revisions: Mapping[str, RevisionFacts], snapshot: Snapshot, engine: EngineCatalogue
) -> dict[str, RevisionFacts]:
    """The revisions with what their engines say of the live values; as they are for an engine that has none."""
    if not engine.live_knobs(snapshot.engine_version):
        return dict(revisions)
    read = {pod.facts.name: pod.metrics for view in snapshot.revisions for pod in view.pods}
    return {
        name: replace(facts, pods=tuple(_judged(pod, read.get(pod.name, PodMetrics())) for pod in facts.pods))
        for name, facts in revisions.items()
    }


def _judged(pod: PodFacts, metrics: PodMetrics) -> PodFacts:
    number, refused = metrics.settings_id, metrics.settings_refused
    if not isinstance(number, Known):
        return replace(pod, live=Live.UNKNOWN)
    if number.value == names.settings_id(pod.revision):
        return replace(pod, live=Live.IN_FORCE)
    return replace(pod, live=Live.REFUSED if isinstance(refused, Known) and refused.value > 0 else Live.PENDING)


async def tune(
    kube: Kube,
    deployment: LLMDeployment,
    pods: Sequence[PodFacts],
    given: Mapping[str, Given],
    actions: Iterable[Action],
) -> None:
    """Gives pods the values that the actions ask for, one patch for each pod that has others."""
    wanted = [action for action in actions if isinstance(action, TuneLive)]
    catalogue, version = catalogue_of(deployment.spec), deployment.spec.engine.version
    for name, action in chosen(wanted, pods, given).items():
        annotations = live_annotations(catalogue, version, action.revision, action.config)
        if annotations and dict(given[name].annotations) != annotations:
            await _annotate(kube, deployment.metadata.namespace, name, given[name].uid, annotations)


def chosen(wanted: Sequence[TuneLive], pods: Sequence[PodFacts], given: Mapping[str, Given]) -> dict[str, TuneLive]:
    """Which pod has which values: first those that have them already, then ready ones, then the oldest."""
    found: dict[str, TuneLive] = {}
    # Those without a number take what the others leave.
    for action in sorted(wanted, key=lambda one: one.pods is None):
        free = [
            pod
            for pod in pods
            if pod.name in given
            and given[pod.name].carrier == action.carrier
            and not pod.terminating
            and pod.name not in found
        ]
        free.sort(key=lambda pod: (given[pod.name].runs != action.revision, not pod.ready, pod.created_at, pod.name))
        found |= {pod.name: action for pod in free[: action.pods]}
    return found


async def _annotate(kube: Kube, namespace: str, name: str, uid: str, annotations: Mapping[str, str]) -> None:
    body = {"metadata": {"uid": uid, "annotations": dict(annotations)}}
    try:
        await kube.merge_patch(PODS, namespace, name, body, manager=names.LIVE_MANAGER)
    except (Conflict, NotFound):
        return  # this pod has gone, and the one in its place is looked at next time

"""Resources and states for the tests of the shell, as short as they can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.config import EngineConfig, KnobValue
from trimtab.model.histogram import Histogram
from trimtab.model.reading import Known
from trimtab.model.reason import Reason
from trimtab.model.rollout import (
    Attempt,
    Candidate,
    Phase,
    RevisionFacts,
    RolloutState,
    Source,
    Stable,
)
from trimtab.model.snapshot import ObservedPod, PodFacts, PodMetrics, RevisionView, Snapshot

NOW = 1_800_000_000.0


def owned(
    *,
    name: str = "chat",
    namespace: str = "serving",
    status: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> LLMDeployment:
    """An owned vLLM deployment of two pods; keyword arguments replace parts of its spec, `engine` is merged."""
    engine = {"name": "vllm", "version": "0.32.0", "image": "registry.example/vllm:0.32.0", **spec.pop("engine", {})}
    return LLMDeployment.model_validate(
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": "uid-1",
                "generation": 3,
                "creationTimestamp": "2026-01-02T00:00:00Z",
                "annotations": dict(annotations or {}),
            },
            "spec": {"model": {"name": "m75", "source": "/models/m75"}, "replicas": 2, "engine": engine, **spec},
            "status": dict(status or {}),
        }
    )


def adopting(**spec: Any) -> LLMDeployment:
    """An LLMDeployment that adopts the Deployment `web`, whose engine runs in the container `vllm`."""
    engine = {"name": "vllm", "version": "0.32.0", **spec.pop("engine", {})}
    reference = {"name": "web", "container": "vllm", **spec.pop("targetRef", {})}
    return LLMDeployment.model_validate(
        {
            "metadata": {
                "name": "chat",
                "namespace": "serving",
                "uid": "uid-1",
                "generation": 1,
                "creationTimestamp": "2026-01-02T00:00:00Z",
            },
            "spec": {"model": {"name": "m75"}, "engine": engine, "targetRef": reference, **spec},
        }
    )


def target(arguments: Sequence[str] = ("/models/m75", "--max-num-seqs", "4"), **metadata: Any) -> dict[str, Any]:
    """The user's Deployment of three pods: a proxy, and the engine in the container `vllm`."""
    containers = [
        {"name": "proxy", "image": "registry.example/proxy:1"},
        {
            "name": "vllm",
            "image": "registry.example/vllm:0.32.0",
            "command": ["vllm", "serve"],
            "args": list(arguments),
        },
    ]
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "serving", "uid": "uid-web", "generation": 5, **metadata},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
        "status": {"observedGeneration": 5, "replicas": 3, "updatedReplicas": 3},
    }


def stable(revision: str = "rev-a", template: str = "t1", **config: KnobValue) -> Stable:
    return Stable(revision, EngineConfig(config), template)


def candidate(revision: str = "rev-b", template: str = "t1", **config: KnobValue) -> Candidate:
    return Candidate(revision, EngineConfig(config), template, Source.USER)


def settled(serves: Stable, *, asked: EngineConfig | None = None, **changes: Any) -> RolloutState:
    """One revision serves; `asked` is what the spec said when it was adopted."""
    return RolloutState(
        phase=Phase.STABLE,
        since=NOW - 600.0,
        stable=serves,
        user_config=serves.config if asked is None else asked,
        user_template=serves.template,
        **changes,
    )


def attempt(outcome: Reason, reason: Reason, message: str, revision: str = "rev-b") -> Attempt:
    return Attempt(
        revision=revision,
        config=EngineConfig({"maxNumSeqs": 2}),
        source=Source.USER,
        plan="",
        step=0,
        outcome=outcome,
        reason=reason,
        message=message,
        started_at=NOW - 300.0,
        served_at=NOW - 280.0,
        decided_at=NOW - 260.0,
        ended_at=NOW - 240.0,
    )


def pods(revision: str, ready: int, waiting: int = 0) -> tuple[PodFacts, ...]:
    """Pods of one revision, of which the first `ready` are."""
    return tuple(
        PodFacts(name=f"{revision}-{number}", revision=revision, ready=number < ready)
        for number in range(ready + waiting)
    )


def facts(revision: str, ready: int, desired: int | None = None, **changes: Any) -> RevisionFacts:
    return RevisionFacts(revision, desired=ready if desired is None else desired, pods=pods(revision, ready), **changes)


def seconds(*values: float) -> Histogram:
    """The observations, in buckets that end at each of them."""
    bounds = (*sorted(set(values)), math.inf)
    counts = tuple(float(sum(value <= bound for value in values)) for bound in bounds)
    return Histogram(bounds, counts, sum(values))


def snapshot(revision: str = "rev-a", *, count: int = 2, metrics: PodMetrics | None = None) -> Snapshot:
    """A snapshot of one revision whose ready pods all show `metrics`."""
    readings = metrics if metrics is not None else PodMetrics()
    observed = tuple(ObservedPod(pod, readings) for pod in pods(revision, count))
    return Snapshot(
        namespace="serving",
        name="chat",
        at=NOW,
        window=60.0,
        engine="vllm",
        engine_version="0.32.0",
        revisions=(RevisionView(revision, observed),),
        metrics=Known(True, window=60.0),
    )

"""What the API server's objects say about pods, revisions and free GPUs; pure functions over their JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from trimtab.model.reading import Known
from trimtab.model.rollout import RevisionFacts
from trimtab.model.snapshot import ClusterFacts, PodFacts, PodTrouble

REVISION_LABEL = "trimtab.dev/revision"
_LONGEST = 300
_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_CRASHES_FOR_A_LOOP = 2

Object = Mapping[str, Any]


def pod_facts(pod: Object, revision: str) -> PodFacts:
    """One pod of a revision. Missing fields count as "not yet": a pod is not ready until its status says so."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    ready = _condition(status, "Ready")
    is_ready = ready.get("status") == "True"
    containers = _container_statuses(status)
    trouble, message = _trouble(status, containers, is_ready)
    return PodFacts(
        name=metadata["name"],
        revision=revision,
        ready=is_ready,
        terminating=bool(metadata.get("deletionTimestamp")),
        restarts=sum(_restarts(container) for container in containers),
        oom_kills=sum(_oom_kills(container) for container in containers),
        trouble=trouble,
        trouble_message=message,
        created_at=_instant(metadata.get("creationTimestamp")) or 0.0,
        ready_since=_instant(ready.get("lastTransitionTime")) if is_ready else None,
        address=str(status.get("podIP") or ""),
    )


def _trouble(status: Object, containers: Sequence[Object], ready: bool) -> tuple[PodTrouble | None, str]:
    """What keeps the pod from serving, the most telling first. A ready pod has no trouble, whatever lies behind it."""
    if ready:
        return None, ""
    for container in containers:
        waiting = _state(container, "state", "waiting")
        reason = str(waiting.get("reason") or "")
        if reason in _IMAGE_REASONS:
            return PodTrouble.IMAGE_PULL, _sentence(f"{reason}: {waiting.get('message') or container.get('image', '')}")
        if reason in _CONFIG_REASONS:
            return PodTrouble.CONFIG_ERROR, _sentence(f"{reason}: {waiting.get('message') or ''}")
    for container in containers:
        if _oom_kills(container):
            limit = "killed for using more memory than its limit"
            return PodTrouble.OOM_KILLED, _sentence(f"{limit} ({last_words(container)})")
    for container in containers:
        if _is_crashing(container):
            return PodTrouble.CRASH_LOOP, last_words(container)
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return PodTrouble.UNSCHEDULABLE, _sentence(str(scheduled.get("message") or "no node fits"))
    return None, ""


def _is_crashing(container: Object) -> bool:
    if _state(container, "state", "waiting").get("reason") == "CrashLoopBackOff":
        return True
    now_dead = int(_state(container, "state", "terminated").get("exitCode") or 0) != 0
    died_before = int(_state(container, "lastState", "terminated").get("exitCode") or 0) != 0
    # restartCount counts the ends before the present run; a container that lies dead now has ended once more.
    crashes = (_restarts(container) if died_before else 0) + (1 if now_dead else 0)
    return crashes >= _CRASHES_FOR_A_LOOP


def last_words(container: Object) -> str:
    """The last line that a dead container left, its exit code where it left none; empty for one that never ended."""
    for which in ("state", "lastState"):
        ended = _state(container, which, "terminated")
        if not ended:
            continue
        code = f"exit code {ended.get('exitCode', '?')}"
        lines = [line for text in str(ended.get("message") or "").splitlines() if (line := _said(text))]
        errors = [line for line in lines if "error" in line.lower()]
        if lines:
            return _sentence(f"{code}: {(errors or lines)[-1]}")
        reason = str(ended.get("reason") or "")
        return _sentence(f"{code}, {reason}" if reason else code)
    return ""


def _said(line: str) -> str:
    """A line of a traceback without what pydantic adds to its words, and empty for its pointer to the manual."""
    if line.strip().startswith("For further information visit"):
        return ""
    return line.split(" [type=", 1)[0].strip()


def revision_facts(deployment: Object, pods: Iterable[PodFacts], *, revision: str | None = None) -> RevisionFacts:
    """A revision's workload and its pods. `revision` overrides the label, for an adopted workload that has none."""
    metadata, spec, status = deployment["metadata"], deployment.get("spec") or {}, deployment.get("status") or {}
    name = revision or str((metadata.get("labels") or {}).get(REVISION_LABEL) or metadata["name"])
    desired = int(spec["replicas"]) if spec.get("replicas") is not None else 1
    failure = _condition(status, "ReplicaFailure")
    message = _sentence(str(failure.get("message") or "")) if failure.get("status") == "True" else ""
    observed = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
    replicas, updated = int(status.get("replicas") or 0), int(status.get("updatedReplicas") or 0)
    return RevisionFacts(
        revision=name,
        desired=desired,
        pods=tuple(sorted(pods, key=lambda pod: pod.name)),
        message=message,
        settled=observed and updated == replicas == desired,
    )


def gpus(nodes: Iterable[Object], pods: Iterable[Object], resource_name: str) -> ClusterFacts:
    """GPUs of nodes that take pods, and those of them that no pod on these nodes has asked for."""
    usable = {node["metadata"]["name"]: _allocatable(node, resource_name) for node in nodes if _takes_pods(node)}
    taken = dict.fromkeys(usable, 0)
    for pod in pods:
        node = (pod.get("spec") or {}).get("nodeName")
        if node in taken and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            taken[node] += _requested(pod, resource_name)
    free = sum(max(0, usable[name] - taken[name]) for name in usable)
    return ClusterFacts(gpus_free=Known(free), gpus_total=Known(sum(usable.values())))


def _takes_pods(node: Object) -> bool:
    if (node.get("spec") or {}).get("unschedulable"):
        return False
    return _condition(node.get("status") or {}, "Ready").get("status") == "True"


def _allocatable(node: Object, resource_name: str) -> int:
    return _count(((node.get("status") or {}).get("allocatable") or {}).get(resource_name))


def _requested(pod: Object, resource_name: str) -> int:
    """What the scheduler counts: the containers together, or the largest of the init containers."""

    def asked(container: Object) -> int:
        resources = container.get("resources") or {}
        amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        return _count(amounts.get(resource_name))

    spec = pod.get("spec") or {}
    running = sum(asked(container) for container in spec.get("containers") or ())
    starting = max((asked(container) for container in spec.get("initContainers") or ()), default=0)
    return max(running, starting)


def _count(quantity: object) -> int:
    """Extended resources are whole numbers; anything else is none."""
    text = str(quantity or "0")
    return int(text) if text.isdecimal() else 0


def _container_statuses(status: Object) -> list[Object]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _restarts(container: Object) -> int:
    return int(container.get("restartCount") or 0)


def _oom_kills(container: Object) -> int:
    """Of the ends that the API server still shows: the present one and the one before."""
    return sum(_state(container, which, "terminated").get("reason") == "OOMKilled" for which in ("state", "lastState"))


def _state(container: Object, which: str, state: str) -> Object:
    return (container.get(which) or {}).get(state) or {}


def _conditions(status: Object) -> Iterator[Object]:
    yield from status.get("conditions") or ()


def _condition(status: Object, kind: str) -> Object:
    return next((item for item in _conditions(status) if item.get("type") == kind), {})


def _instant(text: object) -> float | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def _sentence(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"

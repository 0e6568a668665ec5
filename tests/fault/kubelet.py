"""Plays the kubelet: pods become ready, crash or starve as their nature says, by the tests' clock.

The pods themselves are made and deleted by the real controllers. No pod is bound to a node, so the API server deletes
one at once instead of waiting for a kubelet to end it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fault.clock import Ages, Clock, rfc3339
from tests.fault.natures import NATURES, Fate, Nature, nature_of

SERVED_BEFORE_DEATH = 60.0
_SHORT = 5.0  # seconds until a pod that cannot start says so

Object = dict[str, Any]
Patch = Callable[[Object, Object], None]  # (pod, status)


@dataclass
class Kubelet:
    """`act` sets the statuses that are due; `ready` names the pods that serve now, with their natures."""

    clock: Clock
    ages: Ages
    patch: Patch
    natures: Mapping[int, Nature] = field(default_factory=lambda: dict(NATURES))
    ready: dict[str, Nature] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)  # pods on a node that does not answer any more
    _said: dict[str, str] = field(default_factory=dict)
    _next: float = math.inf

    def act(self, pods: Sequence[Object]) -> bool:
        """Brings every pod's status to the present; whether any changed."""
        changed, self._next, self.ready = False, math.inf, {}
        for pod in pods:
            uid, nature = pod["metadata"]["uid"], nature_of(pod, self.natures)
            age = self.clock.now - self.ages.created(uid)
            word, status = self._status(pod, nature, age)
            if word == "serves":
                self.ready[pod["metadata"]["name"]] = nature
            if self._said.get(uid) != word:
                self.patch(pod, status)
                self._said[uid] = word
                changed = True
        return changed

    def wake(self) -> float:
        """Seconds until the next pod changes."""
        return self._next - self.clock.now

    def _status(self, pod: Object, nature: Nature, age: float) -> tuple[str, Object]:
        name = pod["metadata"]["name"]
        born = self.clock.now - age
        if name in self.lost:
            return "lost", _running(pod, ready=False, since=self.clock.now)
        match nature.fate:
            case Fate.PENDING:
                return "pending", _unschedulable(born)
            case Fate.NO_IMAGE:
                return self._after(age, _SHORT, "image", lambda: _waiting(pod, "ImagePullBackOff", restarts=0))
            case Fate.CRASHES:
                return self._after(age, _SHORT, "crash", lambda: _waiting(pod, "CrashLoopBackOff", restarts=3))
            case Fate.OOM:
                return self._after(age, _SHORT, "oom", lambda: _waiting(pod, "CrashLoopBackOff", restarts=2, oom=True))
            case Fate.NEVER_READY:
                return "starting", _running(pod, ready=False, since=born)
            case Fate.DIES if age >= nature.start_seconds + SERVED_BEFORE_DEATH:
                return "dead", _waiting(pod, "CrashLoopBackOff", restarts=1, oom=True)
            case Fate.DIES if age >= nature.start_seconds:
                self._next = min(self._next, born + nature.start_seconds + SERVED_BEFORE_DEATH)
                return "serves", _running(pod, ready=True, since=born + nature.start_seconds)
        serves = lambda: _running(pod, ready=True, since=born + nature.start_seconds)  # noqa: E731
        return self._after(age, nature.start_seconds, "serves", serves)

    def _after(self, age: float, seconds: float, word: str, then: Callable[[], Object]) -> tuple[str, Object]:
        if age >= seconds:
            return word, then()
        self._next = min(self._next, self.clock.now - age + seconds)
        return "created", {"phase": "Pending"}


def _running(pod: Object, *, ready: bool, since: float) -> Object:
    word = "True" if ready else "False"
    return {
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": word, "lastTransitionTime": rfc3339(since)}
            for kind in ("Ready", "ContainersReady")
        ],
        "containerStatuses": [_container(pod, {"running": {"startedAt": rfc3339(since)}}, ready=ready)],
    }


def _waiting(pod: Object, reason: str, *, restarts: int, oom: bool = False) -> Object:
    ended = {"exitCode": 137 if oom else 1, "reason": "OOMKilled" if oom else "Error", "message": "vllm: error"}
    crashed = reason == "CrashLoopBackOff"
    status = _container(pod, {"waiting": {"reason": reason, "message": "back-off"}}, ready=False, restarts=restarts)
    return {
        "phase": "Running" if crashed else "Pending",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{**status, **({"lastState": {"terminated": ended}} if crashed else {})}],
    }


def _unschedulable(since: float) -> Object:
    words = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    return {"phase": "Pending", "conditions": [{**scheduled, "lastTransitionTime": rfc3339(since)}]}


def _container(pod: Object, state: Object, *, ready: bool, restarts: int = 0) -> Object:
    container = pod["spec"]["containers"][0]
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": ready,
        "restartCount": restarts,
        "state": state,
    }

"""Counts the ready pods of every revision at each change of a pod, so that no moment without them is missed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Self

from kubernetes import watch

from tests.e2e.access import Access

REVISION = "trimtab.dev/revision"
DEPLOYMENT = "trimtab.dev/deployment"


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is in its Service: Ready and not about to go."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def revision_of(pod: dict[str, Any]) -> str:
    """The revision that a pod belongs to; empty for pods of an adopted workload."""
    return str((pod["metadata"].get("labels") or {}).get(REVISION, ""))


@dataclass(frozen=True, slots=True)
class Count:
    """How many pods of each revision were ready from `at` on, in seconds since the epoch."""

    at: float
    ready: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.ready.values())


class PodWatch:
    """Watches pods in a thread while it is open; `with PodWatch(...) as pods:`."""

    def __init__(self, access: Access, namespace: str, selector: str) -> None:
        self._access = access
        self._where = (namespace, selector)
        self._lock = threading.Lock()
        self._pods: dict[str, dict[str, Any]] = {}
        self._counts: list[Count] = []
        self._stream: Any = watch.Watch()  # type: ignore[no-untyped-call]
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pod-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._stream.stop()

    def _run(self) -> None:
        while not self._ends.is_set():
            try:
                self._relist()
                for kind, pod in self._access.watched_pods(*self._where, self._stream):
                    if self._ends.is_set():
                        return
                    self._take(kind, pod)
            except Exception:  # noqa: BLE001 - a watch that breaks is opened again; the list tells what it missed
                self._ends.wait(0.5)

    def _relist(self) -> None:
        found = {pod["metadata"]["uid"]: pod for pod in self._access.pods(*self._where)}
        with self._lock:
            self._pods = found
            self._count()

    def _take(self, kind: str, pod: dict[str, Any]) -> None:
        with self._lock:
            if kind == "DELETED":
                self._pods.pop(pod["metadata"]["uid"], None)
            else:
                self._pods[pod["metadata"]["uid"]] = pod
            self._count()

    def _count(self) -> None:
        ready: dict[str, int] = {}
        for pod in self._pods.values():
            ready.setdefault(revision_of(pod), 0)
            ready[revision_of(pod)] += is_ready(pod)
        if not self._counts or self._counts[-1].ready != ready:
            self._counts.append(Count(time.time(), ready))

    def counts(self, since: float = 0.0) -> list[Count]:
        """The counts that held at `since` and after it, oldest first."""
        with self._lock:
            before = [count for count in self._counts if count.at <= since]
            return before[-1:] + [count for count in self._counts if count.at > since]

    def now(self) -> dict[str, int]:
        """Ready pods by revision; a revision without pods is absent."""
        with self._lock:
            return dict(self._counts[-1].ready) if self._counts else {}

    def least(self, revision: str, since: float) -> int:
        """The smallest number of ready pods of a revision since then."""
        return min((count.ready.get(revision, 0) for count in self.counts(since)), default=0)

    def least_of_all(self, since: float) -> int:
        """The smallest number of ready pods of all revisions together since then."""
        return min((count.total for count in self.counts(since)), default=0)

    def first_ready(self, revision: str, since: float) -> float | None:
        """When a pod of a revision was first ready since then, in seconds since the epoch; None when never."""
        return next((max(count.at, since) for count in self.counts(since) if count.ready.get(revision, 0) > 0), None)

    def seen(self, since: float) -> set[str]:
        """The revisions that had pods since then."""
        return {revision for count in self.counts(since) for revision in count.ready}

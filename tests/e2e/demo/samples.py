"""What the demo looks at every two seconds, and keeps for the table, the picture and the report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tests.e2e.access import Access, AnswerError
from tests.e2e.loadgen import LoadGenerator, Window
from tests.e2e.pods import PodWatch
from tests.e2e.view import View, look

_WINDOW_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look. `load` covers the last ten seconds, None while the load generator cannot be read."""

    at: float
    act: str
    view: View
    load: Window | None
    failed: int
    in_flight: int
    ready: dict[str, int]

    @property
    def pods(self) -> str:
        """Ready pods by role, such as `2 stable, 1 canary`."""
        roles = {name: str(found.get("role", "")).lower() for name, found in self.view.revisions.items()}
        named = [f"{count} {roles.get(revision) or 'other'}" for revision, count in self.ready.items() if count]
        return ", ".join(sorted(named, key=lambda text: "stable" not in text)) or "none"


class Observer:
    """Takes samples of one LLMDeployment, its pods and its load."""

    def __init__(self, access: Access, namespace: str, name: str, pods: PodWatch, load: LoadGenerator) -> None:
        self._access = access
        self._where = (namespace, name)
        self._pods = pods
        self._load = load
        self.samples: list[Sample] = []
        self.act = ""

    def sample(self) -> Sample:
        """Looks once. The resource must be readable; the load generator may not be there yet."""
        stats: dict[str, Any] | None
        try:
            stats = self._load.stats()
            load = self._load.window(float(stats["now"]) - _WINDOW_SECONDS) if stats else None
        except AnswerError:
            stats, load = None, None
        taken = Sample(
            at=time.time(),
            act=self.act,
            view=look(self._access, *self._where),
            load=load,
            failed=int(stats["totals"]["failed"]) if stats else 0,
            in_flight=int(stats["totals"]["in_flight"]) if stats else 0,
            ready=self._pods.now(),
        )
        self.samples.append(taken)
        return taken

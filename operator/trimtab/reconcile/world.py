"""What the shell works with: the clients, the settings and the clocks, passed in so that a test can pass its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from trimtab.config import Settings
from trimtab.kube.client import Kube
from trimtab.kube.events import Events
from trimtab.reconcile.metrics import MetricsReader
from trimtab.telemetry.metrics import Metrics


class Key(NamedTuple):
    """One LLMDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(slots=True)
class Memory:
    """What may be forgotten at any time: it only saves writes, it never decides (a restart begins with an empty one)."""

    findings_seen: dict[Key, tuple[str, int]] = field(default_factory=dict)
    adopted: dict[tuple[str, str], Key] = field(default_factory=dict)  # (namespace, Deployment) -> who adopted it


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside of the pure rooms. `now` gives seconds since the epoch."""

    settings: Settings
    kube: Kube
    events: Events
    metrics_reader: MetricsReader
    telemetry: Metrics
    now: Callable[[], float]
    memory: Memory = field(default_factory=Memory)

"""What the shell works with: the clients, the settings and the clocks, passed in so that a test can pass its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trimtab.config import Settings
from trimtab.kube.client import Kube
from trimtab.kube.events import Events
from trimtab.reconcile.calibration import Calibration
from trimtab.reconcile.memory import Memory
from trimtab.reconcile.metrics import MetricsReader
from trimtab.reconcile.quality import Comparisons
from trimtab.telemetry.metrics import Metrics
from trimtab.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside of the pure rooms. `now` gives seconds since the epoch."""

    settings: Settings
    kube: Kube
    events: Events
    metrics_reader: MetricsReader
    comparisons: Comparisons
    telemetry: Metrics
    tracing: Tracing
    now: Callable[[], float]
    memory: Memory = field(default_factory=Memory)
    calibration: Calibration = field(default_factory=Calibration)

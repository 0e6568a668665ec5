"""What `analyse` finds: bottlenecks with severity, confidence and evidence, and the state of the SLO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from trimtab.model.reading import Reading
from trimtab.model.slo import LatencyTarget


class BottleneckKind(StrEnum):
    """E3, and the further ones that are real."""

    MEMORY_PRESSURE = "MemoryPressure"
    CACHE_INEFFICIENCY = "CacheInefficiency"
    HIGH_LATENCY = "HighLatency"
    BATCH_SIZE_SUBOPTIMAL = "BatchSizeSuboptimal"
    QUEUE_BUILDUP = "QueueBuildup"
    LOW_THROUGHPUT = "LowThroughput"
    PREFILL_BOUND = "PrefillBound"
    DECODE_BOUND = "DecodeBound"
    PREEMPTION_THRASH = "PreemptionThrash"
    LONG_PROMPT_BLOCKING = "LongPromptBlocking"
    REPLICA_IMBALANCE = "ReplicaImbalance"
    OVER_PROVISIONED = "OverProvisioned"
    IDLE = "Idle"


class Severity(IntEnum):
    """Ordered: a plan addresses the most severe first."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def label(self) -> str:
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One finding. `confidence` is 0 to 1; `evidence` holds the numbers that `message` names, in base units."""

    kind: BottleneckKind
    severity: Severity
    confidence: float
    message: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TargetState:
    """One latency target against what was measured: the percentile in seconds, and the share of requests above it."""

    target: LatencyTarget
    measured: Reading[float]
    share_above: Reading[float]
    met: bool | None  # None: Unknown


@dataclass(frozen=True, slots=True)
class Health:
    """The diagnosis of one deployment: bottlenecks, worst first, and the SLO target by target."""

    bottlenecks: tuple[Bottleneck, ...] = ()
    targets: tuple[TargetState, ...] = ()
    error_share: Reading[float] | None = None
    slo_met: bool | None = None  # None: Unknown, or no SLO

    @property
    def worst(self) -> Bottleneck | None:
        return self.bottlenecks[0] if self.bottlenecks else None

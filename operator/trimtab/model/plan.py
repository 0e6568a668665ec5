"""What `plan` proposes: ordered optimizations with their predicted effect, and why the alternatives were rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TypeAlias

from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.config import EngineConfig, KnobValue, content_hash
from trimtab.model.reason import Reason


class OptimizationType(StrEnum):
    KV_CACHE = "KVCache"
    QUANTIZATION = "Quantization"
    BATCHING = "Batching"
    MEMORY = "Memory"
    PARALLELISM = "Parallelism"


class Impact(IntEnum):
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def label(self) -> str:
        return self.name.capitalize()


class Effort(StrEnum):
    """What carrying a change out costs: a live limit, new pods, or a new model artefact."""

    LIVE = "Live"
    RESTART = "Restart"
    NEW_ARTEFACT = "NewArtefact"


class Metric(StrEnum):
    """What an effect is stated for, and what can be declared as traded."""

    TTFT = "ttft"
    ITL = "itl"
    E2E = "e2e"
    THROUGHPUT = "throughput"  # output tokens per second
    KV_CAPACITY = "kvCapacity"  # tokens that fit
    ERRORS = "errors"


@dataclass(frozen=True, slots=True)
class Change:
    """One knob: None stands for the engine's default."""

    knob: str
    current: KnobValue | None
    recommended: KnobValue | None
    reason: str


@dataclass(frozen=True, slots=True)
class Effect:
    """The predicted ratio new/old of one metric, with its interval; `basis` names the rule or the model."""

    metric: Metric
    ratio: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True, slots=True)
class Optimization:
    """One step of a plan: applied, judged and kept or reverted on its own (E2)."""

    type: OptimizationType
    title: str
    description: str
    changes: tuple[Change, ...]
    impact: Impact
    effects: tuple[Effect, ...]
    effort: Effort
    addresses: tuple[BottleneckKind, ...] = ()
    risks: tuple[str, ...] = ()
    prerequisites: tuple[str, ...] = ()
    trades: tuple[Metric, ...] = ()  # metrics knowingly made worse: judged by their SLO alone
    alters_outputs: bool = False

    @property
    def as_changes(self) -> dict[str, KnobValue | None]:
        return {change.knob: change.recommended for change in self.changes}


@dataclass(frozen=True, slots=True)
class Rejected:
    """An alternative that was considered and left, with the number that decided."""

    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A proposal for one deployment. `start` is the configuration it was made for, `result` what all steps lead to.

    `estimated` is true while effects come from documented rules instead of a fitted model. `improvement` is the
    predicted ratio of the objective's metric for the combination, never a sum of the parts (E9).
    """

    namespace: str
    target: str
    engine: str
    engine_version: str
    start: EngineConfig
    result: EngineConfig
    optimizations: tuple[Optimization, ...]
    improvement: Effect
    rejected: tuple[Rejected, ...] = ()
    fingerprint: Mapping[str, float] = field(default_factory=dict)  # the workload that it was made for
    gpus_while_rolling_out: int = 0
    estimated: bool = True
    shortfall: str = ""  # the targets that no allowed configuration is predicted to keep, with the nearest values

    @property
    def name(self) -> str:
        """Target and content hash: what is changed from what, so that the same proposal has the same name."""
        steps = [sorted((k, v) for k, v in step.as_changes.items()) for step in self.optimizations]
        return f"{self.target}-{content_hash(self.engine, self.engine_version, self.start, steps)}"

    @property
    def trades(self) -> frozenset[Metric]:
        return frozenset(metric for step in self.optimizations for metric in step.trades)

    @property
    def alters_outputs(self) -> bool:
        return any(step.alters_outputs for step in self.optimizations)


@dataclass(frozen=True, slots=True)
class NoPlan:
    """Why nothing is proposed."""

    reason: Reason
    message: str


Proposal: TypeAlias = Plan | NoPlan

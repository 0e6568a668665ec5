"""What a plan is asked for with: the facts, the current configuration and the constraints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from trimtab.catalogue.models.shape import ModelShape
from trimtab.model.bottleneck import Health
from trimtab.model.config import EngineConfig
from trimtab.model.plan import Plan
from trimtab.model.slo import Slo
from trimtab.model.snapshot import Snapshot
from trimtab.plan.calibration.state import State


class Objective(StrEnum):
    """What counts as better while the SLO is met."""

    THROUGHPUT = "Throughput"
    LATENCY = "Latency"
    COST = "Cost"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The range that a person allows for a numeric knob, both ends included; None is open."""

    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """Everything that `propose` looks at.

    `config` is what is set on the stable revision (knobs that are not set have the engine's default); `arguments` are
    the user's own engine arguments, whose knobs are locked. `tried` are configurations remembered as bad. `plan`
    is the plan proposed last, kept while it still says nearly the same.
    """

    namespace: str
    target: str
    engine: str
    version: str
    device: str  # "cpu" or a GPU type
    config: EngineConfig
    snapshot: Snapshot
    health: Health
    stable: str  # revision
    slo: Slo = field(default_factory=Slo)
    objective: Objective = Objective.THROUGHPUT
    allowed: frozenset[str] = frozenset()  # empty: all knobs
    locked: frozenset[str] = frozenset()
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    min_improvement: float = 0.05  # share
    tried: tuple[EngineConfig, ...] = ()
    replicas: int = 1
    gpus_per_pod: int = 0
    memory_limit_bytes: int | None = None  # of the engine's container
    model: ModelShape | None = None  # where the registry knows it
    model_quantization: str | None = None  # of the checkpoint, where it is known
    profile: str = "Balanced"
    plan: Plan | None = None
    calibration: State | None = None  # what was learned of the performance model's errors; None: nothing

"""What a plan on paper says: options with their figures, the way to the chosen one, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from trimtab.model.config import KnobValue
from trimtab.model.plan import Effect, Rejected
from trimtab.plan.outlook import Figures
from trimtab.plan.point import ServingPoint, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """`replicas` of one serving point. `price` is per million output tokens, None where no price was given."""

    point: ServingPoint
    traffic: Traffic  # of one replica
    replicas: int
    config: Mapping[str, KnobValue]
    figures: Figures
    meets: bool
    price: float | None = None

    @property
    def gpus(self) -> int:
        return self.point.layout.gpus * self.replicas

    @property
    def throughput_per_gpu(self) -> float:
        return self.figures.throughput / self.gpus

    @property
    def tokens_per_user(self) -> float:
        """Tokens per second that one request gets while it decodes."""
        return 1.0 / self.figures.latencies["itl.mean"]


@dataclass(frozen=True, slots=True)
class Step:
    """One optimization on the way to the chosen option, with what it does after the steps before it."""

    title: str
    changes: Mapping[str, tuple[KnobValue, KnobValue]]  # knob -> (from, to)
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperPlan:
    """`front` holds the options that no other one beats both in throughput per GPU and in end-to-end time."""

    chosen: Option
    front: tuple[Option, ...]
    start: Option | None = None  # the engine's own defaults in the smallest layout, None where that does not run
    steps: tuple[Step, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    considered: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """No option meets the targets. `reachable` is the lowest bound of each target that some option reaches, seconds."""

    message: str
    nearest: Option
    reachable: Mapping[str, float] = field(default_factory=dict)
    front: tuple[Option, ...] = ()
    considered: int = 0


@dataclass(frozen=True, slots=True)
class NothingFits:
    """No layout holds the model, or the fixed knobs and bounds leave nothing."""

    message: str


PaperAnswer: TypeAlias = PaperPlan | Infeasible | NothingFits

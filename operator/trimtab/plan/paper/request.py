"""What a plan on paper is asked for with, and the checks that come before any of it is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from trimtab.catalogue.gpus import Device
from trimtab.catalogue.models.shape import ModelShape
from trimtab.model.config import KnobValue
from trimtab.model.slo import LatencyTarget
from trimtab.plan.point import Traffic
from trimtab.plan.request import Bounds, Objective

PERCENTILES: Final = (50, 95, 99)
_LONGEST: Final = 10_000_000  # tokens
_MOST_GPUS: Final = 4096


class PaperError(ValueError):
    """A question without an answer: the sentence names the field and the way out."""

    def __init__(self, field_: str, message: str) -> None:
        super().__init__(message)
        self.field = field_


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRequest:
    """`traffic` is that of all replicas together; `gpus` bounds all of them together.

    `weights` and `caches` are the formats that may be chosen; empty: the checkpoint's own. `fixed` holds knobs that
    must have a value, `bounds` ranges for others. `price` is per GPU and hour, None when it is not known.
    """

    model: ModelShape
    device: Device
    traffic: Traffic
    gpus: int = 1
    engine: str = "vllm"
    version: str = ""
    targets: tuple[LatencyTarget, ...] = ()
    objective: Objective = Objective.THROUGHPUT
    weights: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    max_model_len: int | None = None
    memory_utilization: float | None = None
    fixed: Mapping[str, KnobValue] = field(default_factory=dict)
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    price: float | None = None

    def checked(self) -> PaperRequest:
        """Itself. Raises PaperError for what cannot be meant."""
        traffic = self.traffic
        for name, value in (("prompt", traffic.prompt), ("output", traffic.output)):
            if not 1 <= value <= _LONGEST:
                raise PaperError(name, f"{value:g} tokens; give the mean length of a request, 1 to {_LONGEST:,}.")
        if (traffic.concurrency is None) == (traffic.rate is None):
            raise PaperError("rate", "Give either a rate (requests per second) or a concurrency (clients), not both.")
        load = traffic.rate if traffic.rate is not None else traffic.concurrency or 0.0
        if not 0 < load < math.inf:
            raise PaperError("rate", f"A load of {load:g} is none; give a rate or a concurrency above 0.")
        if not 1 <= self.gpus <= _MOST_GPUS:
            raise PaperError("gpus", f"{self.gpus} GPUs; give 1 to {_MOST_GPUS} GPUs.")
        needed = traffic.prompt + traffic.output
        longest = min(self.max_model_len or self.model.max_positions, self.model.max_positions)
        if needed > longest:
            raise PaperError(
                "prompt",
                f"A request of {traffic.prompt:g} and {traffic.output:g} tokens is longer than the {longest:,} tokens "
                f"that {self.model.name} is served with. Shorten it, or raise maxModelLen where the model allows it.",
            )
        for target in self.targets:
            if target.percentile not in PERCENTILES:
                raise PaperError(
                    "slo", f"{target.name}: predictions are made for p50, p95 and p99; choose one of them."
                )
        for knob, bounds in self.bounds.items():
            if bounds.minimum is not None and bounds.maximum is not None and bounds.minimum > bounds.maximum:
                raise PaperError(knob, f"The minimum {bounds.minimum} is above the maximum {bounds.maximum}.")
        return self

"""Every configuration that may be proposed: allowed values of the knobs that the model weighs, as far as they fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from trimtab.model.config import EngineConfig, KnobValue
from trimtab.model.plan import Rejected
from trimtab.plan.context import Context
from trimtab.plan.modelled.subject import KNOBS, Subject, mixture
from trimtab.plan.point import ServingPoint
from trimtab.plan.rules import BURST
from trimtab.plan.search.candidates import Bools, Floats
from trimtab.plan.search.space import Axis, Space
from trimtab.plan.starting import starting

_SEQUENCES: Final = (4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_BUDGETS: Final = (1024, 2048, 4096, 8192, 16384)
_SHARES: Final = (90, 92, 95)  # percent of the GPU's memory; more leaves too little to other processes
_SIZES: Final = (1, 2, 4, 8)
# Knobs of which only those that are named in a spec may be changed by the cautious, and by whom outputs may be altered.
CAUTIOUS: Final = "Conservative"
BOLD: Final = "Aggressive"
_HARMLESS: Final = frozenset({"maxNumSeqs", "maxNumBatchedTokens"})
_LIMITS: Final = _HARMLESS | {"gpuMemoryUtilizationPercent"}


@dataclass(frozen=True, slots=True)
class Choices:
    """Rows of `space` are configurations that fit; the row `now` is the one that runs. `closed` says which knobs could
    not be varied, and why.
    """

    subject: Subject
    space: Space
    points: tuple[ServingPoint, ...]
    copies: tuple[int, ...]
    now: int
    closed: tuple[Rejected, ...]

    def changes(self, row: int) -> dict[str, KnobValue]:
        """The knobs of a row that differ from now."""
        here = self.space.config(row)
        return {knob: value for knob, value in here.items() if value != self.subject.values[knob]}

    def config(self, context: Context, row: int) -> EngineConfig:
        return context.request.config.with_changes(self.subject.limits.set(self.changes(row)))


def choices(context: Context, subject: Subject, *, altering: bool) -> Choices:
    """`altering`: also knobs that can change what the model writes."""
    axes, closed = [], []
    for knob in KNOBS:
        values, refused = _values(context, subject, knob, altering=altering)
        axes.append(Axis(knob, values))
        closed += refused
    space = Space.of(axes)
    space = space.where(_sound(context, subject, space))
    space = space.where(_starting(subject, space))
    rows = [subject.with_values(space.config(row)) for row in range(space.count)]
    now = space.row(subject.values)
    if now is None:
        raise ValueError("what runs is no configuration of its own space")
    return Choices(
        subject=subject,
        space=space,
        points=tuple(point for point, _ in rows),
        copies=tuple(copies for _, copies in rows),
        now=now,
        closed=tuple(closed),
    )


def _values(
    context: Context, subject: Subject, knob: str, *, altering: bool
) -> tuple[tuple[KnobValue, ...], list[Rejected]]:
    """The present value first, and every other one that a person, the catalogue and the profile allow."""
    now = subject.values[knob]
    refused: list[Rejected] = []
    usual = [value for value in _usual(context, subject, knob) if value != now]
    found = context.knobs.get(knob)
    if found is None or not usual or (found.alters_outputs and not altering):
        return (now,), []
    if context.request.profile == CAUTIOUS and knob not in _HARMLESS and knob not in context.request.allowed:
        return (now,), [Rejected(f"Change {knob}", f"The profile {CAUTIOUS} leaves it alone; allow it by name.")]
    bounds = context.request.bounds.get(knob)
    if bounds is not None:
        usual += [edge for edge in (bounds.minimum, bounds.maximum) if edge is not None and edge not in (*usual, now)]
    kept: list[KnobValue] = []
    for value in sorted(usual, key=lambda value: (isinstance(value, str), value)):
        why = context.refusal(subject.limits.knob(knob, value), value)
        if why is None:
            kept.append(value)
        elif not refused:
            refused.append(Rejected(f"Change {knob}", f"{why}."))
    return (now, *kept), refused if not kept else []


def _usual(context: Context, subject: Subject, knob: str) -> Iterator[KnobValue]:
    gpus, device = max(1, context.request.gpus_per_pod), context.device
    match knob:
        case "maxNumSeqs":
            yield from _SEQUENCES
        case "maxNumBatchedTokens":
            yield from _BUDGETS
        case "kvCacheDtype" if device.supports_fp8 and subject.point.kv_cache == "bf16":
            yield "fp8" if subject.point.engine == "vllm" else "fp8_e4m3"
        case "gpuMemoryUtilizationPercent" if subject.values[knob] and subject.point.kv_cache_bytes is None:
            yield from (share for share in _SHARES if share > int(subject.values[knob]))
        case "tensorParallelSize" if subject.point.layout.expert == 1:
            yield from (size for size in _SIZES if size * subject.point.layout.pipeline <= gpus)
        case "dataParallelSize" if not mixture(subject.point.model) and subject.point.layout.pipeline == 1:
            yield from (size for size in _SIZES if size <= gpus)
        case "quantization" if device.supports_fp8 and subject.point.weights == "bf16" and not _quantized(context):
            yield "fp8"


def _quantized(context: Context) -> bool:
    return bool(context.request.model_quantization or context.value("quantization"))


def _sound(context: Context, subject: Subject, space: Space) -> Bools:
    """Within the pod's GPUs, within each other, and not remembered as bad; what runs stays in any case."""
    request = context.request
    gpus = space.numbers("tensorParallelSize") * space.numbers("dataParallelSize") * subject.point.layout.pipeline
    most = max(request.gpus_per_pod, subject.point.layout.gpus * subject.copies)
    kept = (gpus <= most) & (space.numbers("maxNumSeqs") <= space.numbers("maxNumBatchedTokens"))
    for bad in request.tried:
        kept &= ~_as_bad(subject.limits.read(request.config.changes_to(bad)), subject.values, space)
    now = space.row(subject.values)
    if now is not None:
        kept[now] = True
    return np.asarray(kept)


def _as_bad(changes: Mapping[str, KnobValue | None], values: Mapping[str, KnobValue], space: Space) -> Bools:
    """Rows that were tried, and those that go as far in the same direction with one limit, whatever the others are."""
    if any(knob not in values or value is None for knob, value in changes.items()):
        return np.zeros(space.count, bool)
    same, single = np.ones(space.count, bool), len(changes) == 1 and not _LIMITS.isdisjoint(changes)
    for axis in space.axes:
        wanted = changes.get(axis.knob, values[axis.knob])
        further = single and axis.knob in changes and axis.is_numeric
        if further and isinstance(wanted, int):
            found, now = space.numbers(axis.knob), int(values[axis.knob])
            same &= found >= wanted if wanted > now else found <= wanted
        elif not (single and axis.knob in _LIMITS):
            here = axis.values.index(wanted) if wanted in axis.values else -1
            same &= space.choices(axis.knob) == here
    return same


def _starting(subject: Subject, space: Space) -> Bools:
    """Which rows the engine would start; what runs does."""
    names = ("kvCacheDtype", "tensorParallelSize", "dataParallelSize", "quantization", "gpuMemoryUtilizationPercent")
    starts = starting(space, names, lambda row: subject.with_values(space.config(row))[0])
    now = space.row(subject.values)
    if now is not None:
        starts[now] = True
    return starts


def effort(found: Choices, demand: float) -> Floats:
    """How far each row is from what runs: knobs changed, half as far without a restart, then whether a burst finds
    room, then doublings.
    """
    space, values = found.space, found.subject.values
    total = np.zeros(space.count)
    for axis in space.axes:
        differs = space.choices(axis.knob) != axis.values.index(values[axis.knob])
        started = found.subject.limits.started.get(axis.knob)
        total = total + differs * (1.0 if started is None else np.where(space.numbers(axis.knob) > started, 1.0, 0.5))
        if axis.knob in _HARMLESS:
            total = total + 0.01 * np.abs(np.log2(space.numbers(axis.knob) / int(values[axis.knob])))
    short = space.numbers("maxNumSeqs") < math.ceil(BURST * demand / max(1, found.subject.copies))
    return np.asarray(total + 0.5 * short)

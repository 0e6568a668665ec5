"""What follows when a GPU fails: go on, start again on the GPUs that are left, the next engine, or the end. Pure.

A layout is made smaller, never of another kind: no size becomes larger than it was asked for, so a model that was not
to be cut into pipeline stages is not. Of the layouts that the model's heads, its layers and the memory allow, the one
with the most GPUs is taken, and among those the one that cuts a copy into the most parts, as that is nearest to what
was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from trimtab_engine.gpus.health import Gpu, Verdict
from trimtab_engine.gpus.layout import Layout
from trimtab_engine.gpus.shape import Heads, Shape

# Of a GPU's memory, what weights may take: vLLM 0.32 takes 92 % by default (`vllm/config/cache.py`), and computing and
# the KV cache need some of it.
WEIGHTS_SHARE = 0.85


class Action(StrEnum):
    """What is done."""

    GO_ON = "go_on"
    RESTART = "restart"
    FEWER = "restart_with_fewer"
    NEXT = "next_engine"
    END = "end"


class Cause(StrEnum):
    """Why."""

    NOTHING_FAILED = "nothing_failed"
    NOT_IN_USE = "not_in_use"
    SWITCHED_OFF = "switched_off"
    CONTAINED = "error_contained"
    FAILED = "gpu_failed"
    NO_LAYOUT = "no_layout"
    SPREAD = "spread_over_machines"
    TOO_OFTEN = "too_many_restarts"
    NONE_LEFT = "no_gpu_left"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The GPUs that an engine computes on, by their UUIDs and in its order, and how it is spread over them."""

    gpus: tuple[str, ...] = ()
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What follows; `placement` where the engine starts again."""

    action: Action
    cause: Cause
    message: str = ""
    placement: Placement | None = None


@dataclass(frozen=True, kw_only=True)
class Situation:
    """`asked` is the layout as configured, `now` where the engine computes, `gpus` all that it may have, in order.
    `ended`: its process has ended although nobody asked it to. `contained`: an error of memory was contained since it
    began. `others`: engines that have not been tried yet. `movable`: the layout is ours to change."""

    asked: Layout
    now: Placement
    gpus: Sequence[Gpu]
    heads: Heads = Heads.SHARED
    shape: Shape | None = None
    ended: bool = False
    contained: bool = False
    others: bool = False
    movable: bool = True
    recover: bool = True
    restarts: int = 0
    most_restarts: int = 3


def place(
    asked: Layout, gpus: Sequence[Gpu], *, shape: Shape | None, heads: Heads, first: Sequence[str] = ()
) -> Placement | None:
    """The largest layout within `asked` on GPUs that can be used; None where there is none. GPUs in `first` are
    preferred, and those that are not degraded."""
    usable = sorted((gpu for gpu in gpus if gpu.usable), key=lambda gpu: (_worse(gpu), gpu.reading.uuid not in first))
    found = [layout for layout in _layouts(asked, len(usable), shape, heads) if _fits(layout, usable, shape)]
    if not found:
        return None
    layout = max(found, key=lambda one: (one.gpus, one.tensor, one.pipeline))
    taken = {gpu.reading.uuid for gpu in usable[: layout.gpus]}
    return Placement(gpus=tuple(gpu.reading.uuid for gpu in gpus if gpu.reading.uuid in taken), layout=layout)


def decide(situation: Situation) -> Decision:
    """What to do now. Nothing is done to an engine that runs on GPUs which can be used."""
    failed = [gpu for gpu in situation.gpus if not gpu.usable]
    used = [gpu for gpu in failed if gpu.reading.uuid in situation.now.gpus]
    if not used:
        return _without_a_failure(situation, failed)
    told = " ".join(gpu.sentence() for gpu in used)
    if not situation.recover:
        return Decision(action=Action.GO_ON, cause=Cause.SWITCHED_OFF, message=f"{told} gpus.recover is false.")
    if all(not gpu.usable for gpu in situation.gpus):
        return Decision(action=Action.END, cause=Cause.NONE_LEFT, message=f"{told} No GPU is left.")
    if situation.restarts >= situation.most_restarts:
        return _leave(situation, Cause.TOO_OFTEN, f"{told} gpus.most_restarts, {situation.most_restarts}, is reached.")
    if not situation.movable:
        return _leave(situation, Cause.SPREAD, f"{told} The engine is spread over several machines.")
    left = place(
        situation.asked, situation.gpus, shape=situation.shape, heads=situation.heads, first=situation.now.gpus
    )
    if left is None:
        return _leave(situation, Cause.NO_LAYOUT, f"{told} The model does not fit on the GPUs that are left.")
    before, after = situation.now.layout, left.layout
    how = f"on {after.gpus} of {len(situation.gpus)} GPUs ({after.sentence()}; before: {before.sentence()})"
    return Decision(
        action=Action.FEWER, cause=Cause.FAILED, message=f"{told} The engine starts again {how}.", placement=left
    )


def _without_a_failure(situation: Situation, failed: Sequence[Gpu]) -> Decision:
    """Every GPU that the engine computes on can be used."""
    if situation.ended and situation.contained and situation.recover and situation.restarts < situation.most_restarts:
        message = "An uncorrectable memory error was contained, and the engine ended. It starts again on the same GPUs."
        return Decision(action=Action.RESTART, cause=Cause.CONTAINED, message=message, placement=situation.now)
    if failed:
        told = " ".join(gpu.sentence() for gpu in failed)
        return Decision(action=Action.GO_ON, cause=Cause.NOT_IN_USE, message=f"{told} The engine does not use it.")
    return Decision(action=Action.GO_ON, cause=Cause.NOTHING_FAILED)


def _leave(situation: Situation, cause: Cause, told: str) -> Decision:
    """The engine cannot go on here: another one may."""
    if situation.others:
        return Decision(action=Action.NEXT, cause=cause, message=f"{told} The next engine is tried.")
    return Decision(action=Action.END, cause=cause, message=f"{told} There is no further engine.")


def _layouts(asked: Layout, most: int, shape: Shape | None, heads: Heads) -> Iterator[Layout]:
    """All layouts on up to `most` GPUs that the model's heads and layers allow."""
    for tensor in range(1, min(asked.tensor, most) + 1):
        # Without the model's shape: what divides the size that was asked for divides the heads, too.
        if asked.tensor % tensor if shape is None else shape.problem(tensor, heads):
            continue
        for pipeline in range(1, min(asked.pipeline, most // tensor) + 1):
            if shape is None or pipeline <= shape.layers:
                yield Layout(tensor=tensor, pipeline=pipeline, data=min(asked.data, most // (tensor * pipeline)))


def _fits(layout: Layout, usable: Sequence[Gpu], shape: Shape | None) -> bool:
    """Whether each GPU that would be taken has room for its part of the weights, as far as both are known."""
    if shape is None or shape.weight_bytes is None:
        return True
    totals = [gpu.reading.memory_total_bytes for gpu in usable[: layout.gpus]]
    known = [total for total in totals if total is not None]
    return not known or shape.weight_bytes / layout.parts <= WEIGHTS_SHARE * min(known)


def _worse(gpu: Gpu) -> bool:
    return gpu.assessment.verdict is Verdict.DEGRADED

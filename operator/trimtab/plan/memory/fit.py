"""Does a configuration fit, how many tokens does its KV cache hold, and if not: what would help.

    match fit(point):
        case Fits() as room: room.kv_tokens, room.max_concurrency(prompt=1024, output=256)
        case DoesNotFit(reason): ...           # a sentence with the numbers and the way out

Many configurations of one model on one device in one layout are sized at once: `MemoryModel.of(point)` holds what they
share, and its methods take arrays of limits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.plan.memory.activations import activation_bytes
from trimtab.plan.memory.budget import beside_cache_bytes, cache_budget, usable_bytes
from trimtab.plan.memory.cache import Cache, Numbers, cache_of
from trimtab.plan.memory.layout import objection
from trimtab.plan.memory.limits import Limits, limits_of
from trimtab.plan.memory.weights import weights_bytes
from trimtab.plan.memory.wording import cache_too_small, memory_unknown, too_large
from trimtab.plan.point import ServingPoint

Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryModel:
    """What configurations share that differ in limits only. Bytes are per GPU of the fullest pipeline stage."""

    point: ServingPoint
    weights: int
    cache: Cache
    usable: int | None

    @classmethod
    def of(cls, point: ServingPoint) -> MemoryModel:
        """For a point that passes `layout.objection`."""
        return cls(point=point, weights=weights_bytes(point), cache=cache_of(point), usable=usable_bytes(point))

    def kv_bytes(self, limits: Limits) -> Numbers:
        """Bytes of the KV cache; 0 where nothing is left for it."""
        budget = self.cache.usable(cache_budget(self.point, self.weights, self.usable, limits))
        return np.maximum(0.0, np.where(self._overfull(limits, budget), 0.0, budget))

    def kv_tokens(self, limits: Limits) -> Numbers:
        """Tokens that the cache holds in sequences of the longest context, summed over data-parallel groups.

        0 where the engine would not start: vLLM refuses a cache that is too small for one such sequence.
        """
        sequences = self.concurrency(self.kv_bytes(limits), limits.length, limits.step_tokens)
        tokens = np.floor(sequences * limits.length)
        return np.where(self.starts(limits), tokens, 0.0) * self.point.layout.data

    def starts(self, limits: Limits) -> Flags:
        """Whether the engine would start: true or false per configuration."""
        held = self.kv_bytes(limits)
        if self.point.engine != "vllm":
            return np.asarray(held > 0)
        return np.asarray(held >= self.cache.sequence_bytes(limits.length, limits.step_tokens))

    def concurrency(self, kv_bytes: Numbers | float, length: Numbers | float, step_tokens: Numbers | float) -> Numbers:
        """Sequences of `length` tokens that fit at once into one data-parallel group's cache."""
        return kv_bytes / self.cache.sequence_bytes(length, step_tokens)

    def _overfull(self, limits: Limits, budget: Numbers) -> Flags:
        """A fixed size of the cache for which there is no room; sizes that follow from the memory have it."""
        if self.usable is None:
            return np.zeros(np.shape(budget), dtype=bool)
        return np.asarray(self.weights + beside_cache_bytes(self.point, limits) + budget > self.usable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """Bytes are per GPU of the fullest pipeline stage; tokens and concurrency are of the whole replica.

    `kv_tokens` counts tokens of sequences of the longest context, as vLLM reports it at start: with sliding windows
    more than shorter sequences have room for. `reserve_bytes` is what is left of the memory for libraries, graphs,
    fragmentation and other processes; 0 on a CPU of which the memory is not known.
    """

    model: MemoryModel
    limits: Limits
    kv_tokens: int
    kv_bytes: int
    weights_bytes: int
    activation_bytes: int
    reserve_bytes: int

    def max_concurrency(self, prompt: float, output: float) -> float:
        """How many requests of these lengths in tokens the KV cache holds at once, when each has grown to its end."""
        step = float(self.limits.step_tokens)
        return float(self.model.concurrency(self.kv_bytes, prompt + output, step)) * self.model.point.layout.data


@dataclass(frozen=True, slots=True)
class DoesNotFit:
    """Why the engine would not start: the numbers, and the way out."""

    reason: str


def fit(point: ServingPoint) -> Fits | DoesNotFit:
    """Sizes one configuration."""
    reason = objection(point)
    if reason is not None:
        return DoesNotFit(reason)
    model, limits = MemoryModel.of(point), limits_of(point)
    if model.usable is None and point.kv_cache_bytes is None:
        return DoesNotFit(memory_unknown(point))
    if model.kv_bytes(limits) <= 0:
        return DoesNotFit(_too_large(model, limits))
    if not model.starts(limits):
        return DoesNotFit(_cache_too_small(model, limits))
    return _fits(model, limits)


def _fits(model: MemoryModel, limits: Limits) -> Fits:
    held = int(model.kv_bytes(limits))
    activations = int(activation_bytes(model.point, limits.step_tokens, limits.sequences))
    return Fits(
        model=model,
        limits=limits,
        kv_tokens=int(model.kv_tokens(limits)),
        kv_bytes=held,
        weights_bytes=model.weights,
        activation_bytes=activations,
        reserve_bytes=max(0, (model.usable or 0) - held - model.weights - activations),
    )


def _too_large(model: MemoryModel, limits: Limits) -> str:
    point = model.point
    beside = int(beside_cache_bytes(point, limits))
    return too_large(point, model.weights, beside, model.usable or 0, _more_gpus(point), _smaller_format(point))


def _more_gpus(point: ServingPoint) -> int | None:
    """The smallest larger tensor-parallel size within a node that leaves room for a cache."""
    per_node = point.device.gpu.gpus_per_node if point.device.gpu else 1
    sizes = (point.layout.tensor * 2**step for step in range(1, 8))
    return next((size for size in sizes if size <= per_node and _has_room(_with_tensor(point, size))), None)


def _with_tensor(point: ServingPoint, tensor: int) -> ServingPoint:
    return replace(point, layout=replace(point.layout, tensor=tensor))


def _smaller_format(point: ServingPoint) -> str | None:
    """The least reduced format of weights that leaves room for a cache."""
    formats = ("fp8", "int4_wo")
    return next((fmt for fmt in formats if _has_room(replace(point, weights=fmt, experts=""))), None)


def _has_room(point: ServingPoint) -> bool:
    if objection(point) is not None:
        return False
    return bool(MemoryModel.of(point).kv_bytes(limits_of(point)) > 0)


def _cache_too_small(model: MemoryModel, limits: Limits) -> str:
    held, length = int(model.kv_bytes(limits)), int(limits.length)
    needed = int(model.cache.sequence_bytes(limits.length, limits.step_tokens))
    return cache_too_small(model.point, length, needed, held, _longest(model, limits))


def _longest(model: MemoryModel, limits: Limits) -> int:
    """The longest context of which one sequence fits, by bisection; 0 where not even one token does."""
    fits, too_long = 0, int(limits.length)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if model.starts(replace(limits, length=np.asarray(float(middle)))):
            fits = middle
        else:
            too_long = middle
    return fits

"""Many questions at once: serving points and traffic as arrays, their curves shared where they are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.catalogue.models.shape import Experts, Latent, ModelShape
from trimtab.plan.memory import MemoryModel, limits_of
from trimtab.plan.memory.limits import Limits
from trimtab.plan.performance.coefficients import ENGINES
from trimtab.plan.performance.curves import Attentions, Linears, attentions, linears
from trimtab.plan.performance.engines import early, overlapped, synchronous, unfused
from trimtab.plan.performance.hardware import hardware_of
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.stack import Index
from trimtab.plan.point import ServingPoint, Traffic


@dataclass(frozen=True, slots=True)
class Variant:
    """What configurations share that differ in limits only."""

    linears: Linears
    attentions: Attentions
    memory: MemoryModel
    limits: Limits  # the engine's defaults
    kind: str  # of point, for the width of intervals
    layers: int
    launched: float  # layers, weighted by how many kernels they are
    data: int
    pipeline: int
    gpus: int
    engine: int
    old: bool  # fuses less
    waits: bool  # schedules between steps
    lean: bool  # known to schedule during them
    early: bool
    plain_fp8: bool
    quantizations: float  # of activations per step, as kernels of their own
    nvfp4: bool
    rocm: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one entry per question; `of` maps each to its variant. Rates are per second, NaN in a closed loop."""

    variants: tuple[Variant, ...]
    of: Index
    prompt: Floats
    output: Floats
    clients: Floats  # NaN in an open loop
    rate: Floats
    burstiness: Floats
    cached: Floats  # share of the prompt found in the prefix cache
    accepted: Floats  # draft tokens accepted per step
    drafted: Floats
    prompt_variation: Floats
    output_variation: Floats
    fixed: NDArray[np.bool_]  # all lengths equal
    eager: NDArray[np.bool_]
    chunked: NDArray[np.bool_]
    serial: NDArray[np.bool_]  # one core computes, schedules and answers
    limits: Limits

    def each(self, name: str) -> Floats:
        """An attribute of the variants, per question."""
        return np.array([float(getattr(variant, name)) for variant in self.variants])[self.of]


def batch_of(points: Sequence[ServingPoint], traffic: Sequence[Traffic]) -> Batch:
    """Raises ValueError for a device whose rates are not known and KeyError for an engine or format that is not."""
    keys: dict[tuple[object, ...], int] = {}
    firsts: list[ServingPoint] = []
    of = np.empty(len(points), np.intp)
    for number, p in enumerate(points):
        key = (
            id(p.model), id(p.device), p.engine, p.version, p.layout, p.weights, p.experts, p.kv_cache,
            p.kv_cache_bytes, p.kv_block_tokens, p.prefix_caching,
        )  # fmt: skip
        found = keys.setdefault(key, len(firsts))
        if found == len(firsts):
            firsts.append(p)
        of[number] = found
    variants = tuple(_variant(point) for point in firsts)
    return Batch(
        variants=variants,
        of=of,
        prompt=np.array([t.prompt for t in traffic], float),
        output=np.array([t.output for t in traffic], float),
        clients=np.array([np.nan if t.concurrency is None else t.concurrency for t in traffic], float),
        rate=np.array([np.nan if t.rate is None else t.rate for t in traffic], float),
        burstiness=np.array([t.burstiness for t in traffic], float),
        cached=np.array([t.prefix_share if p.prefix_caching else 0.0 for p, t in zip(points, traffic, strict=True)]),
        accepted=np.array([t.accept * p.draft_tokens for p, t in zip(points, traffic, strict=True)], float),
        drafted=np.array([p.draft_tokens for p in points], float),
        prompt_variation=np.array([t.prompt_variation for t in traffic], float),
        output_variation=np.array([t.output_variation for t in traffic], float),
        fixed=np.array([not (t.prompt_variation or t.output_variation) for t in traffic], bool),
        eager=np.array([not p.cuda_graphs for p in points], bool),
        chunked=np.array([p.chunked_prefill for p in points], bool),
        serial=np.array([_on_one_core(p) for p in points], bool),
        limits=_limits(points, variants, of),
    )


def _variant(point: ServingPoint) -> Variant:
    experts = point.experts or point.weights
    return Variant(
        linears=linears(point.model, point.device, point.engine, point.layout, point.weights, experts),
        attentions=attentions(point.model, point.device, point.layout.tensor, point.kv_cache),
        memory=MemoryModel.of(point),
        limits=limits_of(_unlimited(point)),
        kind=kind_of(point),
        layers=point.model.layers,
        launched=_launched(point.model),
        data=point.layout.data,
        pipeline=point.layout.pipeline,
        gpus=point.layout.gpus,
        engine=ENGINES.index(point.engine) if point.engine in ENGINES else 0,
        old=unfused(point.engine, point.version),
        # vLLM plans no step ahead on a CPU (platforms/cpu.py, 0.32).
        waits=point.device.cpu or synchronous(point.engine, point.version),
        lean=point.engine == "vllm" and not point.device.cpu and overlapped(point.engine, point.version),
        early=early(point.engine, point.version),
        plain_fp8=point.weights == "fp8",
        quantizations=_quantizations(point),
        nvfp4=point.weights == "nvfp4",
        rocm=point.device.gpu is not None and point.device.gpu.source.startswith("AMD"),
    )


def _on_one_core(point: ServingPoint) -> bool:
    processor = point.device.processor
    return processor is not None and processor.cores == 1


def kind_of(point: ServingPoint) -> str:
    """How well points of this kind can be predicted: `dense` and `moe` on architectures whose kernels were measured."""
    if not hardware_of(point.device).near:
        return "far"
    mixture = any(isinstance(block.feed_forward, Experts) for block in point.model.blocks)
    return "moe" if mixture else "dense"


def _quantizations(point: ServingPoint) -> float:
    """vLLM's for fp8_block: before each matrix, and before each of the two of an expert layer."""
    if point.engine != "vllm":
        return 0.0
    layers = [isinstance(block.feed_forward, Experts) for block in point.model.blocks for _ in range(block.count)]
    dense = 4.0 * len(layers) - 2.0 * sum(layers) if point.weights == "fp8_block" else 0.0
    routed = 2.0 * sum(layers) if (point.experts or point.weights) == "fp8_block" else 0.0
    return dense + routed


def _launched(shape: ModelShape) -> float:
    """Experts and latent attention are about as many kernels more as a plain layer has."""
    return sum(
        block.count * (1.0 + isinstance(block.feed_forward, Experts) + isinstance(block.attention, Latent))
        for block in shape.blocks
    )


def _unlimited(point: ServingPoint) -> ServingPoint:
    return replace(point, max_num_seqs=None, max_num_batched_tokens=None, max_model_len=None, memory_utilization=None)


def _limits(points: Sequence[ServingPoint], variants: Sequence[Variant], of: Index) -> Limits:
    """What is set, and the engine's defaults elsewhere."""

    def filled(own: list[float | None], default: str) -> Floats:
        given = np.array([np.nan if value is None else value for value in own], float)
        defaults = np.array([float(getattr(variant.limits, default)) for variant in variants])[of]
        return np.where(np.isnan(given), defaults, given)

    tokens = filled([p.max_num_batched_tokens for p in points], "step_tokens")
    return Limits(
        sequences=np.minimum(filled([p.max_num_seqs for p in points], "sequences"), tokens),
        step_tokens=tokens,
        length=filled([p.max_model_len for p in points], "length"),
        utilization=filled([p.memory_utilization for p in points], "utilization"),
    )

"""What runs now, as the performance model takes it: a serving point, its copies in a pod, and the traffic of a pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from trimtab.catalogue.models.shape import Experts, ModelShape
from trimtab.model.config import KnobValue
from trimtab.model.plan import OptimizationType
from trimtab.plan.context import Context
from trimtab.plan.memory import DoesNotFit, fit, limits_of
from trimtab.plan.modelled.limits import Limits
from trimtab.plan.performance import forecast
from trimtab.plan.point import Layout, ServingPoint, Traffic
from trimtab.plan.workload import Workload

ENGINES: Final = frozenset({"vllm", "sglang"})
# The knobs that the model weighs, and what kind of optimization each is.
KNOBS: Final[Mapping[str, OptimizationType]] = {
    "maxNumSeqs": OptimizationType.BATCHING,
    "maxNumBatchedTokens": OptimizationType.BATCHING,
    "kvCacheDtype": OptimizationType.KV_CACHE,
    "gpuMemoryUtilizationPercent": OptimizationType.MEMORY,
    "tensorParallelSize": OptimizationType.PARALLELISM,
    "dataParallelSize": OptimizationType.PARALLELISM,
    "quantization": OptimizationType.QUANTIZATION,
}
_CACHES: Final = {
    "auto": "bf16", "bfloat16": "bf16", "bf16": "bf16", "float16": "bf16",
    "fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8",
}  # fmt: skip
_WEIGHTS: Final = {"fp8": "fp8", "awq": "int4_wo", "awq_marlin": "int4_wo", "gptq": "int4_wo", "gptq_marlin": "int4_wo"}
# What the model has no figures for while it is in use: how many guesses are accepted, how fast host memory is.
_NOT_MODELLED: Final = ("speculativeMethod", "speculativeModel", "cpuOffloadGibibytes")
_QUEUE: Final = 1.0  # requests waiting per pod: with fewer, what arrives is served
_LONGEST_SHARE: Final = 0.95  # of a prompt that prefixes can save: its end is always computed


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """`point` is one copy of the engine, `copies` share a pod and its `traffic`; `values` are the knobs of now, of the
    limits of a batch those in force, and `limits` says how these are set.
    """

    point: ServingPoint
    copies: int
    traffic: Traffic
    values: Mapping[str, KnobValue]
    limits: Limits

    @property
    def overloaded(self) -> bool:
        """More wants to be served than is: throughput is what the configuration gives, not what arrives."""
        return self.traffic.concurrency is not None

    def with_values(self, values: Mapping[str, KnobValue]) -> tuple[ServingPoint, int]:
        """The serving point and the copies of a configuration that differs in knobs of `KNOBS`."""
        point, now = self.point, self.values
        changes: dict[str, object] = {
            "max_num_seqs": _lowered(point.max_num_seqs, now["maxNumSeqs"], values["maxNumSeqs"]),
            "max_num_batched_tokens": _lowered(
                point.max_num_batched_tokens, now["maxNumBatchedTokens"], values["maxNumBatchedTokens"]
            ),
            "kv_cache": _CACHES[str(values["kvCacheDtype"])],
            "layout": _with_tensor(point.layout, int(values["tensorParallelSize"])),
        }
        if values["quantization"] != now["quantization"]:
            changes |= {"weights": _WEIGHTS[str(values["quantization"])], "experts": ""}
        if values["gpuMemoryUtilizationPercent"] != now["gpuMemoryUtilizationPercent"]:
            changes["memory_utilization"] = int(values["gpuMemoryUtilizationPercent"]) / 100
        return replace(point, **changes), int(values["dataParallelSize"])  # type: ignore[arg-type]


def subject_of(context: Context) -> Subject | None:
    """None where something that the model needs is not known, or contradicts that the engine runs."""
    shape = context.request.model
    if shape is None or context.device.gpu is None or context.performs_as[0] not in ENGINES:
        return None
    point = point_of(context, shape)
    if point is None or isinstance(fit(point), DoesNotFit):
        return None
    copies = context.number("dataParallelSize") or 1
    traffic = traffic_of(context.workload, point, copies)
    if traffic is None:
        return None
    limits = Limits.of(context)
    return Subject(point=point, copies=copies, traffic=traffic, values=_now(context, point, limits), limits=limits)


def point_of(context: Context, shape: ModelShape) -> ServingPoint | None:
    """One copy of the engine as it is configured; None where the model has no figures for a part of it."""
    if any(context.value(knob) for knob in _NOT_MODELLED):
        return None
    # The user's own argument holds, and is not understood.
    if any(context.by_arguments.get(knob, "") is None for knob in KNOBS):
        return None
    if (context.number("dataParallelSize") or 1) > 1 and mixture(shape):
        return None
    weights, cache = _weights(context, shape), _CACHES.get(str(context.value("kvCacheDtype") or "auto"))
    share, size = context.number("gpuMemoryUtilizationPercent"), context.number("kvCacheMemoryMebibytes")
    if weights is None or cache is None:
        return None
    engine, version = context.performs_as
    return ServingPoint(
        model=shape,
        device=context.device,
        engine=engine,
        version=version,
        layout=_layout(context),
        weights=weights,
        experts=shape.native_experts if weights == shape.native else "",
        kv_cache=cache,
        max_num_seqs=_least(context, "maxNumSeqs", "maxNumActiveSeqs"),
        max_num_batched_tokens=_least(context, "maxNumBatchedTokens", "maxNumScheduledTokens"),
        max_model_len=context.number("maxModelLen"),
        memory_utilization=None if share is None else share / 100,
        kv_cache_bytes=None if size is None else size << 20,
        kv_block_tokens=context.number("blockSize"),
        chunked_prefill=context.value("enableChunkedPrefill") is not False,
        prefix_caching=context.value("enablePrefixCaching") is not False,
        cuda_graphs=context.value("enforceEager") is not True,
    )


def traffic_of(load: Workload, point: ServingPoint, copies: int) -> Traffic | None:
    """Of a pod. Where requests wait, or the model could not serve the rate, as many clients as want to be served;
    otherwise arrivals at the measured rate.
    """
    if not load.prompt or not load.output or load.prompt < 1 or load.output < 1:
        return None
    lengths = Traffic(
        prompt=load.prompt,
        output=load.output,
        prefix_share=min(load.hit_rate or 0.0, _LONGEST_SHARE) if point.prefix_caching else 0.0,
        prompt_variation=load.prompt_variation or 0.0,
        output_variation=load.output_variation or 0.0,
    )
    if load.waiting < _QUEUE and load.request_rate:
        opened = replace(lengths, rate=load.request_rate)
        found = forecast([point], [replace(opened, rate=load.request_rate / copies)])
        if not found.saturated[0]:
            return opened
    return replace(lengths, concurrency=max(1.0, load.demand))


def mixture(shape: ModelShape) -> bool:
    """Whether the model has experts: then data parallelism shares their weights, and is no plain copy."""
    return any(isinstance(block.feed_forward, Experts) for block in shape.blocks)


def _now(context: Context, point: ServingPoint, in_force: Limits) -> dict[str, KnobValue]:
    """The values of `KNOBS` that hold, also where the engine derives them itself."""
    limits = limits_of(point)
    return {
        "maxNumSeqs": in_force.of_knob("maxNumSeqs") or context.number("maxNumSeqs") or int(limits.sequences),
        "maxNumBatchedTokens": in_force.of_knob("maxNumBatchedTokens")
        or context.number("maxNumBatchedTokens")
        or int(limits.step_tokens),
        "kvCacheDtype": context.value("kvCacheDtype") or "auto",
        "gpuMemoryUtilizationPercent": context.number("gpuMemoryUtilizationPercent") or 0,  # 0: the engine's own
        "tensorParallelSize": point.layout.tensor,
        "dataParallelSize": context.number("dataParallelSize") or 1,
        "quantization": context.value("quantization") or "",  # "": as the checkpoint is
    }


def _layout(context: Context) -> Layout:
    """Experts are spread over all GPUs of a tensor-parallel group, or not at all."""
    tensor = context.number("tensorParallelSize") or 1
    spread = context.value("enableExpertParallel") is True or (context.number("expertParallelSize") or 1) > 1
    return Layout(tensor=tensor, pipeline=context.number("pipelineParallelSize") or 1, expert=tensor if spread else 1)


def _weights(context: Context, shape: ModelShape) -> str | None:
    asked = context.value("quantization")
    if not asked or context.request.model_quantization:
        return shape.native
    return _WEIGHTS.get(str(asked))


@lru_cache(maxsize=64)
def _with_tensor(layout: Layout, tensor: int) -> Layout:
    return replace(layout, tensor=tensor)


def _least(context: Context, *knobs: str) -> int | None:
    """The smallest of the limits that are known."""
    known = [value for knob in knobs if (value := context.number(knob))]
    return min(known, default=None)


def _lowered(limit: int | None, now: KnobValue, value: KnobValue) -> int | None:
    """A changed limit, below the narrower one that may hold beside it (maxNumActiveSeqs and the like)."""
    if value == now:
        return limit
    narrower = limit is not None and limit < int(now)
    return min(int(value), limit) if narrower and limit is not None else int(value)

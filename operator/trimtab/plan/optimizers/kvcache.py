"""KV cache: use prefixes again, hold more tokens in the same memory, spill to host memory, prompts in pieces."""

from __future__ import annotations

from collections.abc import Iterator

from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.plan import Metric, Optimization, OptimizationType, Rejected
from trimtab.model.wording import number, percent
from trimtab.plan.context import Context
from trimtab.plan.rules import MEASURED, effect, stated

# No metric tells how much of the prompts is shared while the cache is off: this share is assumed, and a trial tells.
_ASSUMED_SHARED = 0.3
_PRESSURE = (BottleneckKind.MEMORY_PRESSURE, BottleneckKind.PREEMPTION_THRASH)
_TITLE_DTYPE = "Keep the KV cache in 8 bits"
_TITLE_OFFLOAD = "Spill evicted KV blocks to host memory"


def optimize(context: Context) -> Iterator[Optimization | Rejected]:
    """Prefix caching, KV number format, offload, chunked prefill."""
    yield from _prefix_caching(context)
    yield from _chunked_prefill(context)
    yield from _eight_bits(context)
    yield from _offload(context)
    yield from _context_bound(context)


def _prefix_caching(context: Context) -> Iterator[Optimization | Rejected]:
    """Measured with 1152-token prompts of which 1024 are shared: 4.2 times the requests, TTFT 2168 -> 633 ms."""
    if not context.found(BottleneckKind.CACHE_INEFFICIENCY):
        return
    load, title = context.workload, "Use the KV cache of shared prefixes again"
    if context.value("enablePrefixCaching") is not False:
        usage = "not known" if load.kv_usage is None else percent(load.kv_usage)
        yield Rejected(title, f"Prefix caching is on; what is cached is evicted, with a KV cache use of {usage}.")
        return
    model = context.batch_model()
    saved = 0.0
    if model is not None and model.seconds_per_request(model.running) > 0:
        saved = _ASSUMED_SHARED * min(1.0, model.prefill / model.seconds_per_request(model.running))
    basis = f"assumes that {percent(_ASSUMED_SHARED)} of the prompt tokens are shared; 4.2 times at 89 %, {MEASURED}"
    length = "unknown length" if load.prompt is None else f"{number(load.prompt)} tokens"
    yield context.optimization(
        OptimizationType.KV_CACHE,
        title=title,
        description=f"Prompts of {length} are computed from their first token although their beginnings may be shared.",
        changes={"enablePrefixCaching": (True, "Prefix caching is off and prompts are long.")},
        effects=(
            stated(Metric.THROUGHPUT, round(1.0 / (1.0 - saved), 3), 1.0, 4.2, basis),
            stated(Metric.TTFT, 1.0 - _ASSUMED_SHARED, 0.25, 1.02, basis),
        ),
        addresses=(BottleneckKind.CACHE_INEFFICIENCY,),
        risks=("Prompts that share nothing gain nothing; looking them up costs about 1 %.",),
    )


def _chunked_prefill(context: Context) -> Iterator[Optimization | Rejected]:
    if context.value("enableChunkedPrefill") is not False:
        return
    if not context.found(BottleneckKind.LONG_PROMPT_BLOCKING):
        return
    basis = f"a stall lasts one piece of the prompt, {MEASURED}"
    yield context.optimization(
        OptimizationType.KV_CACHE,
        title="Compute long prompts in pieces",
        description="Chunked prefill is off, so requests that generate wait for whole prompts.",
        changes={"enableChunkedPrefill": (True, "Whole prompts stall the requests that generate.")},
        effects=(
            stated(Metric.ITL, 0.6, 0.2, 1.0, basis),
            stated(Metric.TTFT, 1.05, 0.9, 1.3, basis),
        ),
        addresses=(BottleneckKind.LONG_PROMPT_BLOCKING,),
    )


def _eight_bits(context: Context) -> Iterator[Optimization | Rejected]:
    """Measured with 32 MiB of cache: 360 -> 477 tokens per second, capacity twice; the speed alone is unchanged."""
    causes = context.found(*_PRESSURE)
    if not causes or "kvCacheDtype" not in context.knobs:
        return
    if context.value("kvCacheDtype") not in ("auto", "bfloat16", "bf16", "float16"):
        yield Rejected(_TITLE_DTYPE, f"The KV cache is kept as {context.value('kvCacheDtype')} already.")
        return
    if not context.device.cpu and not context.device.supports_fp8:
        yield Rejected(_TITLE_DTYPE, f"{context.request.device} is not known to compute with an fp8 KV cache.")
        return
    value = "fp8" if context.performs_as[0] == "vllm" else "fp8_e4m3"
    basis = f"half the bytes per token; fewer preemptions, {MEASURED}"
    usage = context.workload.kv_usage
    full = "The KV cache is too small" if usage is None else f"{percent(usage)} of the KV cache is used"
    yield context.optimization(
        OptimizationType.KV_CACHE,
        title=_TITLE_DTYPE,
        description=f"{full}; in 8 bits it holds twice the tokens in the same memory.",
        changes={"kvCacheDtype": (value, f"{full}, and 8 bits hold twice the tokens.")},
        effects=(
            stated(Metric.KV_CAPACITY, 2.0, 1.9, 2.0, "half the bytes per token"),
            stated(Metric.THROUGHPUT, 1.2, 1.0, 1.35, basis),
            effect(Metric.TTFT, 0.6, spread=(0.3, 1.2), basis=basis),
        ),
        addresses=causes,
        risks=(
            "Answers can change. They are compared with stable's before it is kept; where that cannot be done, "
            "a person must approve this plan.",
        ),
    )


def _offload(context: Context) -> Iterator[Optimization | Rejected]:
    """Only said, not proposed: how much host memory a pod may take is not known."""
    if not context.found(BottleneckKind.CACHE_INEFFICIENCY, *_PRESSURE) or "kvOffloadGibibytes" not in context.knobs:
        return
    if context.device.cpu:
        yield Rejected(_TITLE_OFFLOAD, "On a CPU the engine refuses to start with it.")
    else:
        yield Rejected(
            _TITLE_OFFLOAD, "It needs host memory that the pod's limits do not name; set kvOffloadGibibytes."
        )


def _context_bound(context: Context) -> Iterator[Optimization | Rejected]:
    if context.found(BottleneckKind.MEMORY_PRESSURE):
        yield Rejected("Bound the context length", "Requests longer than the bound would be refused.")

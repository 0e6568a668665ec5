"""The detectors, sorted by name. A new one is one file here, one entry in this list, and a test."""

from collections.abc import Callable
from typing import Final, TypeAlias

from trimtab.analyse.detectors import (
    batch_size_suboptimal,
    cache_inefficiency,
    decode_bound,
    high_latency,
    idle,
    long_prompt_blocking,
    low_throughput,
    memory_pressure,
    over_provisioned,
    preemption_thrash,
    prefill_bound,
    queue_buildup,
    replica_imbalance,
)
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind

Detector: TypeAlias = Callable[[Signals], Bottleneck | None]

DETECTORS: Final[tuple[tuple[BottleneckKind, Detector], ...]] = (
    (BottleneckKind.BATCH_SIZE_SUBOPTIMAL, batch_size_suboptimal.detect),
    (BottleneckKind.CACHE_INEFFICIENCY, cache_inefficiency.detect),
    (BottleneckKind.DECODE_BOUND, decode_bound.detect),
    (BottleneckKind.HIGH_LATENCY, high_latency.detect),
    (BottleneckKind.IDLE, idle.detect),
    (BottleneckKind.LONG_PROMPT_BLOCKING, long_prompt_blocking.detect),
    (BottleneckKind.LOW_THROUGHPUT, low_throughput.detect),
    (BottleneckKind.MEMORY_PRESSURE, memory_pressure.detect),
    (BottleneckKind.OVER_PROVISIONED, over_provisioned.detect),
    (BottleneckKind.PREEMPTION_THRASH, preemption_thrash.detect),
    (BottleneckKind.PREFILL_BOUND, prefill_bound.detect),
    (BottleneckKind.QUEUE_BUILDUP, queue_buildup.detect),
    (BottleneckKind.REPLICA_IMBALANCE, replica_imbalance.detect),
)

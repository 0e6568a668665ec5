"""OverProvisioned: there are far more replicas than the traffic needs."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.wording import number, percent

_LITTLE = 0.1


def detect(signals: Signals) -> Bottleneck | None:
    """Traffic flows, nothing waits, slots and KV cache are nearly empty, no target is violated, pods are several."""
    fill, usage, waiting, rate = signals.batch_fill, signals.kv_usage, signals.waiting, signals.request_rate
    if (
        not isinstance(fill, Known)
        or not isinstance(usage, Known)
        or not isinstance(waiting, Known)
        or not isinstance(rate, Known)
    ):
        return None
    if signals.pods < 2 or signals.pods_read < signals.pods or signals.slo_met is False or rate.value <= 0:
        return None
    if waiting.value >= 1.0 or fill.value >= _LITTLE or usage.value >= _LITTLE:
        return None
    return Bottleneck(
        BottleneckKind.OVER_PROVISIONED,
        Severity.LOW,
        confidence(fill, usage, waiting),
        f"{signals.pods} pods use {percent(fill.value)} of their slots and {percent(usage.value)} of their KV cache for"
        f" {number(rate.value)} requests per second: fewer replicas would do.",
        {"batchFill": fill.value, "kvUsage": usage.value, "pods": float(signals.pods), "requestsPerSecond": rate.value},
    )

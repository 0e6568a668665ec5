"""ReplicaImbalance: one pod has much more to do than the others."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.wording import number

_FACTOR = 2.0
_REQUESTS = 4.0


def detect(signals: Signals) -> Bottleneck | None:
    """The busiest pod has twice the mean, and the difference to the least busy one is more than chance."""
    loads = signals.load_by_pod
    if not isinstance(loads, Known) or len(loads.value) < 2:
        return None
    most, least = max(loads.value), min(loads.value)
    average = sum(loads.value) / len(loads.value)
    # With two pods the busiest cannot have more than twice the mean, so the least busy one is compared too.
    if most - least < _REQUESTS or (most < _FACTOR * average and most < 3.0 * max(1.0, least)):
        return None
    return Bottleneck(
        BottleneckKind.REPLICA_IMBALANCE,
        Severity.MEDIUM,
        confidence(loads),
        f"The busiest of {len(loads.value)} pods has {number(most)} requests, the least busy {number(least)}:"
        " connections are not spread evenly.",
        {"most": most, "least": least, "mean": average},
    )

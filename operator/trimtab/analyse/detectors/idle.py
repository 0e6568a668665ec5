"""Idle: the pods can be read, and no request came. Pods that cannot be read are never idle."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known, Why


def detect(signals: Signals) -> Bottleneck | None:
    """Nothing runs or waits on any pod, and the counter of requests was read and did not move."""
    running, waiting, rate = signals.running, signals.waiting, signals.request_rate
    if not isinstance(running, Known) or not isinstance(waiting, Known) or signals.pods_read < signals.pods:
        return None
    still = rate.value <= 0 if isinstance(rate, Known) else rate.why is Why.NO_TRAFFIC
    if not still or running.value > 0 or waiting.value > 0:
        return None
    return Bottleneck(
        BottleneckKind.IDLE,
        Severity.LOW,
        confidence(running, waiting),
        f"No request came in the last {signals.window:.0f} s; {signals.pods} pods are ready and read.",
        {"window": signals.window, "pods": float(signals.pods)},
    )

"""MemoryPressure: the KV cache is full, or containers were killed for their memory."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.wording import percent, requests_wait

_TIGHT = 0.9
_FULL = 0.97


def detect(signals: Signals) -> Bottleneck | None:
    """Kills are certain; a full cache is pressure, and worse when requests wait for it."""
    if signals.oom_kills > 0:
        return Bottleneck(
            BottleneckKind.MEMORY_PRESSURE,
            Severity.CRITICAL,
            0.99,
            f"Containers of this revision were killed for exceeding their memory limit {signals.oom_kills} times.",
            {"oomKills": float(signals.oom_kills)},
        )
    usage, waiting = signals.kv_usage, signals.waiting_per_pod
    if not isinstance(usage, Known) or usage.value < _TIGHT:
        return None
    evidence = {"kvUsage": usage.value}
    message = f"{percent(usage.value)} of the KV cache is used at the peak"
    severity = Severity.HIGH if usage.value >= _FULL else Severity.MEDIUM
    if isinstance(waiting, Known) and waiting.value >= 1.0:
        severity = Severity(min(Severity.CRITICAL, severity + 1))
        evidence["waitingPerPod"] = waiting.value
        message += f" and {requests_wait(waiting.value)} per pod for room in it"
    return Bottleneck(BottleneckKind.MEMORY_PRESSURE, severity, confidence(usage), f"{message}.", evidence)

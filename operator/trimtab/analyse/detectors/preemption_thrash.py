"""PreemptionThrash: running requests lose their KV cache to others and are computed again."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known

_STEPS = ((1.0, Severity.CRITICAL), (0.2, Severity.HIGH), (0.05, Severity.MEDIUM))


def detect(signals: Signals) -> Bottleneck | None:
    """Preemptions per request that ended."""
    rate = signals.preemptions_per_request
    if not isinstance(rate, Known):
        return None
    severity = next((level for least, level in _STEPS if rate.value >= least), None)
    if severity is None:
        return None
    return Bottleneck(
        BottleneckKind.PREEMPTION_THRASH,
        severity,
        confidence(rate),
        f"{rate.value:.2f} preemptions per request: the KV cache does not hold what runs, and work is done twice.",
        {"preemptionsPerRequest": rate.value},
    )

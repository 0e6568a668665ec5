"""HighLatency: a latency target is violated; without one for TTFT, a wait that no user accepts."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity, TargetState
from trimtab.model.reading import Known
from trimtab.model.slo import Latency
from trimtab.model.wording import percent, seconds

_UNACCEPTABLE_TTFT = 5.0  # seconds at p95, where no target says otherwise


def detect(signals: Signals) -> Bottleneck | None:
    """The target that is exceeded by the largest factor."""
    violated = [state for state in signals.targets if state.met is False and isinstance(state.measured, Known)]
    if violated:
        return _violation(max(violated, key=_excess))
    if any(state.target.metric is Latency.TTFT for state in signals.targets):
        return None
    p95 = signals.ttft.p95
    if not isinstance(p95, Known) or p95.value < _UNACCEPTABLE_TTFT:
        return None
    return Bottleneck(
        BottleneckKind.HIGH_LATENCY,
        Severity.HIGH,
        confidence(p95),
        f"5 % of the requests wait {seconds(p95.value)} or longer for their first token; no target is set for it.",
        {"ttftP95Seconds": p95.value},
    )


def _excess(state: TargetState) -> float:
    share = state.share_above.value if isinstance(state.share_above, Known) else 0.0
    return share / max(1e-9, state.target.allowed_share)


def _violation(state: TargetState) -> Bottleneck:
    assert isinstance(state.measured, Known)
    excess = _excess(state)
    severity = Severity.CRITICAL if excess >= 8 else Severity.HIGH if excess >= 3 else Severity.MEDIUM
    target = state.target
    share = state.share_above.value if isinstance(state.share_above, Known) else 0.0
    return Bottleneck(
        BottleneckKind.HIGH_LATENCY,
        severity,
        confidence(state.measured),
        f"{target.metric.value.upper()} p{target.percentile} is {seconds(state.measured.value)}, above its target of"
        f" {seconds(target.seconds)}: {percent(share)} of the observations exceed it,"
        f" {percent(target.allowed_share)} may.",
        {"measuredSeconds": state.measured.value, "targetSeconds": target.seconds, "shareAbove": share},
    )

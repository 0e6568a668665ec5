"""BatchSizeSuboptimal: all slots run and requests wait, yet memory is free; or the batch is too large for the ITL."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.slo import Latency
from trimtab.model.wording import number, percent, requests_wait, seconds

_FULL = 0.85  # a batch counts as full: the mean over a window dips while requests come and go
# Of one slot, which is empty while it changes hands: a gauge that is read now and then may show that half of the time.
_HANDED_OVER = 0.5
_MEMORY_FREE = 0.5


def detect(signals: Signals) -> Bottleneck | None:
    """Too small a batch before too large a one: with a queue, a smaller batch would only lengthen it."""
    return _too_small(signals) or _too_large(signals)


def _too_small(signals: Signals) -> Bottleneck | None:
    running, waiting, usage = signals.running_per_pod, signals.waiting_per_pod, signals.kv_usage
    slots = signals.limits.max_num_seqs
    if (
        slots is None
        or not isinstance(running, Known)
        or not isinstance(waiting, Known)
        or not isinstance(usage, Known)
    ):
        return None
    full = running.value >= _FULL * slots - _HANDED_OVER
    if not full or waiting.value < 1.0 or usage.value >= _MEMORY_FREE:
        return None
    pressure = waiting.value / slots
    severity = Severity.CRITICAL if pressure >= 4 else Severity.HIGH if pressure >= 1 else Severity.MEDIUM
    return Bottleneck(
        BottleneckKind.BATCH_SIZE_SUBOPTIMAL,
        severity,
        confidence(running, waiting, usage),
        f"{number(running.value)} of {slots} slots per pod run and {requests_wait(waiting.value)}, although only"
        f" {percent(usage.value)} of the KV cache is used: the batch limit is too small.",
        {"runningPerPod": running.value, "waitingPerPod": waiting.value, "slots": slots, "kvUsage": usage.value},
    )


def _too_large(signals: Signals) -> Bottleneck | None:
    running = signals.running_per_pod
    violated = next(
        (state for state in signals.targets if state.target.metric is Latency.ITL and state.met is False), None
    )
    if violated is None or not isinstance(violated.measured, Known) or not isinstance(running, Known):
        return None
    if running.value < 2.0:
        return None
    return Bottleneck(
        BottleneckKind.BATCH_SIZE_SUBOPTIMAL,
        Severity.MEDIUM,
        confidence(running, violated.measured),
        f"{number(running.value)} sequences run at once per pod and the p{violated.target.percentile} inter-token"
        f" latency is {seconds(violated.measured.value)}, above {seconds(violated.target.seconds)}:"
        " the batch may be too large.",
        {"runningPerPod": running.value, "itlSeconds": violated.measured.value, "target": violated.target.seconds},
    )

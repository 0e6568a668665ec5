"""DecodeBound: the engine spends its time on generating, and that is what limits it."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.wording import number, percent, seconds

_SHARE = 0.2
_BUSY = 0.5  # of the slots


def detect(signals: Signals) -> Bottleneck | None:
    """Little time goes to prompts, the batch is well filled, and requests wait or the SLO is violated."""
    share, itl, fill, running = signals.prefill_share, signals.itl.p50, signals.batch_fill, signals.running_per_pod
    if (
        not isinstance(share, Known)
        or not isinstance(itl, Known)
        or not isinstance(fill, Known)
        or not isinstance(running, Known)
    ):
        return None
    waiting = isinstance(signals.waiting_per_pod, Known) and signals.waiting_per_pod.value >= 1.0
    if share.value > _SHARE or fill.value < _BUSY or not (waiting or signals.slo_met is False):
        return None
    return Bottleneck(
        BottleneckKind.DECODE_BOUND,
        Severity.LOW,
        confidence(share, itl, fill),
        f"A request spends {percent(1 - share.value)} of its time in the engine on generating, at"
        f" {seconds(itl.value)} per token with {number(running.value)} sequences at once per pod.",
        {"decodeShare": 1 - share.value, "itlP50Seconds": itl.value, "runningPerPod": running.value},
    )

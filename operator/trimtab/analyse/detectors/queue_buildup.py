"""QueueBuildup: requests wait for a place although others already run."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.wording import number, requests_wait, seconds

# Waiting per running request, from which each severity holds.
_STEPS = ((4.0, Severity.CRITICAL), (2.0, Severity.HIGH), (0.5, Severity.MEDIUM), (0.0, Severity.LOW))


def detect(signals: Signals) -> Bottleneck | None:
    """At least one request waits per pod, on average over the window."""
    running, waiting = signals.running_per_pod, signals.waiting_per_pod
    if not isinstance(running, Known) or not isinstance(waiting, Known) or waiting.value < 1.0:
        return None
    pressure = waiting.value / max(1.0, running.value)
    severity = next(level for least, level in _STEPS if pressure >= least)
    evidence = {"waitingPerPod": waiting.value, "runningPerPod": running.value}
    message = f"{requests_wait(waiting.value)} per pod while {number(running.value)} run"
    if isinstance(signals.queue.mean, Known):
        evidence["queueSecondsMean"] = signals.queue.mean.value
        message += f"; a request waits {seconds(signals.queue.mean.value)} on average before it starts"
    return Bottleneck(BottleneckKind.QUEUE_BUILDUP, severity, confidence(running, waiting), f"{message}.", evidence)

"""LowThroughput: fewer tokens come out than the floor, or than the device could give, while requests wait."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.analyse.slo import throughput_met
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.wording import number, percent, requests_wait

_IDLE_DEVICE = 0.5


def detect(signals: Signals) -> Bottleneck | None:
    """Without a queue the service gives all that was asked for, and nothing is low."""
    tokens, waiting = signals.output_token_rate, signals.waiting
    if not isinstance(tokens, Known) or not isinstance(waiting, Known) or waiting.value < 1.0:
        return None
    floor = signals.slo.min_output_tokens_per_second
    if floor is not None and throughput_met(floor, tokens, waiting) is False:
        return Bottleneck(
            BottleneckKind.LOW_THROUGHPUT,
            Severity.CRITICAL if tokens.value < floor / 2 else Severity.HIGH,
            confidence(tokens, waiting),
            f"{number(tokens.value)} output tokens come out per second, below the floor of {number(floor)}, while"
            f" {requests_wait(waiting.value)}.",
            {"outputTokensPerSecond": tokens.value, "floor": floor, "waiting": waiting.value},
        )
    used = signals.gpu_utilisation
    if not isinstance(used, Known) or used.value >= _IDLE_DEVICE:
        return None
    return Bottleneck(
        BottleneckKind.LOW_THROUGHPUT,
        Severity.MEDIUM,
        confidence(tokens, waiting, used),
        f"The GPUs are busy {percent(used.value)} of the time while {requests_wait(waiting.value)};"
        f" {number(tokens.value)} output tokens come out per second.",
        {"outputTokensPerSecond": tokens.value, "gpuUtilisation": used.value, "waiting": waiting.value},
    )

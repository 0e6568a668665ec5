"""LongPromptBlocking: generating stalls while a long prompt is computed in large pieces."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.slo import Latency
from trimtab.model.wording import number, seconds

_SPREAD = 5.0  # p99 / p50 of the inter-token latency
_STALL = 0.05  # seconds
_LONG_PROMPT = 256.0  # tokens at p95


def detect(signals: Signals) -> Bottleneck | None:
    """Some tokens come much later than most, prompts are long, and several requests run at once."""
    p50, p99, prompt, running = signals.itl.p50, signals.itl.p99, signals.prompt.p95, signals.running_per_pod
    if (
        not isinstance(p50, Known)
        or not isinstance(p99, Known)
        or not isinstance(prompt, Known)
        or not isinstance(running, Known)
    ):
        return None
    if p99.value < _SPREAD * p50.value or p99.value - p50.value < _STALL:
        return None
    if prompt.value < _LONG_PROMPT or running.value < 1.5:
        return None
    violated = any(state.target.metric is Latency.ITL and state.met is False for state in signals.targets)
    return Bottleneck(
        BottleneckKind.LONG_PROMPT_BLOCKING,
        Severity.HIGH if violated else Severity.LOW,
        confidence(p99, prompt),
        f"One token in a hundred takes {seconds(p99.value)} or longer, while half take {seconds(p50.value)} or less:"
        f" prompts of up to {number(prompt.value)} tokens stall the requests that generate.",
        {"itlP50Seconds": p50.value, "itlP99Seconds": p99.value, "promptTokensP95": prompt.value},
    )

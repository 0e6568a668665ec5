"""PrefillBound: the engine spends its time on prompts."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.wording import number, percent

_SHARE = 0.5
_PROMPT_TO_OUTPUT = 4.0


def detect(signals: Signals) -> Bottleneck | None:
    """Half of a request's time in the engine passes before its first token, and prompts are far longer than outputs."""
    share, prompt, output, running = (
        signals.prefill_share,
        signals.prompt.mean,
        signals.output.mean,
        signals.running_per_pod,
    )
    if (
        not isinstance(share, Known)
        or not isinstance(prompt, Known)
        or not isinstance(output, Known)
        or not isinstance(running, Known)
    ):
        return None
    if share.value < _SHARE or prompt.value < _PROMPT_TO_OUTPUT * output.value or running.value < 1.0:
        return None
    waiting = isinstance(signals.waiting_per_pod, Known) and signals.waiting_per_pod.value >= 1.0
    return Bottleneck(
        BottleneckKind.PREFILL_BOUND,
        Severity.MEDIUM if waiting or signals.slo_met is False else Severity.LOW,
        confidence(share, prompt),
        f"A request spends {percent(share.value)} of its time in the engine on its prompt of"
        f" {number(prompt.value)} tokens, for {number(output.value)} tokens of output.",
        {"prefillShare": share.value, "promptTokensMean": prompt.value, "outputTokensMean": output.value},
    )

"""Does the promoted revision reach the throughput objective while requests wait for it?"""

from __future__ import annotations

from trimtab.judge.request import JudgeRequest
from trimtab.judge.words import bad, good, unreadable
from trimtab.model.reading import Known, Unknown
from trimtab.model.reason import Reason
from trimtab.model.verdict import Verdict

_SHORT = 0.8  # of the objective: throughput follows demand, so only a clear lack counts
_DEMAND = 1.0  # requests waiting per pod: without them it is demand that is missing


def throughput_objective(request: JudgeRequest) -> Verdict | None:
    """Only while watching: a canary carries a share of the load, and its tokens per second say nothing about all."""
    wanted = request.slo.min_output_tokens_per_second
    if wanted is None or not request.watching:
        return None
    reading = request.canary.summed(lambda metrics: metrics.output_token_rate)
    if isinstance(reading, Unknown):
        return unreadable("The promoted revision's throughput", reading)
    waiting = request.canary.summed(lambda metrics: metrics.waiting)
    queue = waiting.value / max(1, len(request.canary.ready_pods)) if isinstance(waiting, Known) else 0.0
    numbers = f"{reading.value:.0f} output tokens/s, the objective is {wanted:.0f}"
    evidence = {"canary.outputTokensPerSecond": reading.value}
    if reading.value < _SHORT * wanted and queue >= _DEMAND:
        return bad(Reason.SLO_REGRESSION, f"{numbers}, and {queue:.0f} requests wait on each pod.", evidence)
    return good(Reason.WITHIN_SLO, f"{numbers}.", evidence)

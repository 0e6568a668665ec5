"""Is the canary better in what the plan promised? Safety is another question, which the other checks answer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from trimtab.judge.history import WAITING
from trimtab.judge.sequential.bounds import narrower_half_width
from trimtab.judge.sequential.case import Case
from trimtab.judge.sequential.policy import LABEL
from trimtab.judge.words import good, unknown
from trimtab.model.reason import Reason
from trimtab.model.verdict import Verdict

_KEPT = 0.5  # of the promised change, on the logarithmic scale, must be there
_ALPHA = 0.05
_LIGHT = math.log(1.25)  # so much less load, surely, is light
_NO_QUEUE = 0.5  # requests waiting per pod


def promises(case: Case) -> Iterator[Verdict]:
    """Good where the gain is measured, or cannot show for want of load; Unknown while it has not shown."""
    for latency, change in case.policy.promises.items():
        means, label = case.means(latency), LABEL[latency]
        promised = math.log1p(change)
        if means is None:
            yield unknown(Reason.CANARY_UNREADABLE, f"{label} was promised to change and cannot be compared.")
            continue
        difference, information = means.estimate()
        width = narrower_half_width(information, _ALPHA)
        evidence = {f"{latency.value}.ratio": math.exp(difference), f"{latency.value}.promisedRatio": 1 + change}
        numbers = f"{label} is {math.exp(difference):.3f} times stable's, {1 + change:.3f} were promised"
        if difference - case.load_effect(latency) <= _KEPT * promised and difference + width < 0:
            yield good(Reason.NOT_WORSE_THAN_STABLE, f"{numbers}: the gain is measured.", evidence)
        elif _light(case):
            message = f"{numbers}: the load is too light to show a gain, which stays predicted."
            yield good(Reason.NOT_WORSE_THAN_STABLE, message, evidence)
        else:
            yield unknown(Reason.TOO_FEW_SAMPLES, f"{numbers}: the gain has not shown.", evidence)


def _light(case: Case) -> bool:
    """The canary carries clearly less than stable, or nothing waits anywhere."""
    if case.load.logarithm + case.load.error < -_LIGHT:
        return True
    waiting = case.history.gauges.get(WAITING)
    return waiting is not None and bool(np.nan_to_num(waiting, nan=math.inf).mean() < _NO_QUEUE)

"""Has the canary seen enough requests to be called Good?"""

from __future__ import annotations

from trimtab.judge.request import JudgeRequest, requests
from trimtab.judge.words import good, unknown, unreadable
from trimtab.model.reading import Unknown
from trimtab.model.reason import Reason
from trimtab.model.verdict import Verdict


def enough_requests(request: JudgeRequest) -> Verdict | None:
    seen = requests(request.canary, request.elapsed)
    if isinstance(seen, Unknown):
        return unreadable("The canary's request count", seen)
    count, needed = seen.value, request.minimum_requests
    evidence = {"canary.requests": count}
    if count <= 0:
        return unknown(Reason.NO_TRAFFIC, "The canary has finished no request yet.", evidence)
    if count < needed:
        message = f"The canary has finished {count:.0f} of the {needed} requests that a verdict needs."
        return unknown(Reason.TOO_FEW_SAMPLES, message, evidence)
    return good(Reason.WITHIN_SLO, f"{count:.0f} requests in {request.elapsed:.0f} s.", evidence)

"""How the canary's load compares with stable's: unequally loaded pods say nothing about a configuration."""

from __future__ import annotations

import math
from enum import Enum

from trimtab.judge.request import JudgeRequest, requests
from trimtab.judge.statistics import OVERDISPERSION
from trimtab.judge.words import unknown
from trimtab.model.reading import Known
from trimtab.model.reason import Reason
from trimtab.model.verdict import Call, Verdict

_NOISE = 2.0  # standard errors that counts may differ by before a difference in load is believed


class Load(Enum):
    """The canary's requests per pod, against stable's."""

    EQUAL = "equal"
    LIGHTER = "lighter"
    HEAVIER = "heavier"


def compared(request: JudgeRequest) -> tuple[Load, float]:
    """Lighter, equal or heavier, and the ratio canary/stable of requests per ready pod.

    By the router's configured share where there is one: counts of finished requests are noisy, and a slow canary
    finishes fewer than it was sent.
    """
    limit = math.log(request.margins.load)
    pods = len(request.canary.ready_pods), len(request.stable.ready_pods)
    if 0 in pods:
        return Load.EQUAL, 1.0
    if request.canary_share is not None and 0 < request.canary_share < 1:
        ratio = (request.canary_share / pods[0]) / ((1 - request.canary_share) / pods[1])
        return _side(math.log(ratio), limit), ratio
    canary, stable = requests(request.canary, request.elapsed), requests(request.stable, request.elapsed)
    if not (isinstance(canary, Known) and isinstance(stable, Known)) or canary.value <= 0 or stable.value <= 0:
        return Load.EQUAL, 1.0
    ratio = (canary.value / pods[0]) / (stable.value / pods[1])
    noise = _NOISE * math.sqrt(OVERDISPERSION * (1 / canary.value + 1 / stable.value))
    return _side(math.log(ratio), limit + noise), ratio


def tempered(verdict: Verdict, load: Load, ratio: float) -> Verdict:
    """A comparison that the load alone may explain becomes Unknown: worse under more of it, no worse under less."""
    explained = (verdict.call is Call.BAD and load is Load.HEAVIER) or (
        verdict.call is Call.GOOD and load is Load.LIGHTER
    )
    if not explained:
        return verdict
    message = f"{verdict.message} The canary finished {ratio:.2f} times stable's requests per pod: not comparable."
    return unknown(Reason.UNEQUAL_LOAD, message, {**verdict.evidence, "loadRatio": ratio})


def _side(difference: float, limit: float) -> Load:
    if difference > limit:
        return Load.HEAVIER
    return Load.LIGHTER if difference < -limit else Load.EQUAL

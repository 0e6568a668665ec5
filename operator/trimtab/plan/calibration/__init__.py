"""Learning from what this cluster was seen to do: the bias of the performance model, by likeness.

    state = empty()
    state = update(state, Observation(point, traffic, predicted=(tpot, ttft), measured=(tpot, ttft)))
    tpot = correction(state, point, traffic, "tpot")        # tpot.factor, tpot.sd
    forecast(points, traffic, correction=corrections(state, points, traffic))

The state is a plain dict of JSON types, at most 100 KB, with a version; the oldest observations are forgotten.
"""

from trimtab.plan.calibration.learn import Corrected, correction, corrections
from trimtab.plan.calibration.state import Observation, State, empty, learned, loads, others, update

__all__ = [
    "Corrected",
    "Observation",
    "State",
    "correction",
    "corrections",
    "empty",
    "learned",
    "loads",
    "others",
    "update",
]

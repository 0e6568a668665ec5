"""The performance model: what a configuration does under a traffic, in milliseconds, with intervals.

    found = forecast(points, traffic)         # many at once: arrays
    found.tpot, found.ttft.p95, found.output_tokens, found.saturated, found.tpot_range.upper
    one = predict(point, traffic)             # the same for one, as numbers

Layers, from below: `kernels` (one kernel, from measured tables or a roofline), `curves` (a step's work by tokens),
`step` (a decode step and a prefill in an engine), `closed_loop` and `open_loop` (many requests at once), `tails`
(percentiles), `forecast` (intervals and bounds).
"""

from trimtab.plan.performance.forecast import Correction, Forecast, Range, forecast
from trimtab.plan.performance.prediction import Figure, Prediction, predict
from trimtab.plan.performance.tails import Latency

__all__ = ["Correction", "Figure", "Forecast", "Latency", "Prediction", "Range", "forecast", "predict"]

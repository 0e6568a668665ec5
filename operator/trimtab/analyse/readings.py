"""Arithmetic on readings: a result is Known only when everything that it is computed from is Known and finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final

from trimtab.model.histogram import Histogram, merged
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.snapshot import ObservedPod, PodMetrics

NOT_SET: Final = Unknown(Why.NOT_EXPORTED, "The limit is not known.")
_NO_POD: Final = Unknown(Why.NOT_SCRAPED, "No pod of the revision is ready.")


def finite(reading: Reading[float]) -> Reading[float]:
    """NaN, infinities and negative values are no measurements."""
    if isinstance(reading, Known) and not (math.isfinite(reading.value) and reading.value >= 0):
        return Unknown(Why.NOT_A_NUMBER, f"The value read is {reading.value}, which is no measurement.")
    return reading


def sound(reading: Reading[Histogram]) -> Reading[Histogram]:
    """A histogram with a finite, non-negative, ascending content; anything else is Unknown."""
    if isinstance(reading, Unknown):
        return reading
    counts = reading.value.cumulative
    # PromQL extrapolates each bucket by itself, so neighbours may be off by a little.
    ascending = all(low <= high * 1.01 + 0.5 for low, high in pairwise(counts))
    if not all(math.isfinite(count) and count >= 0 for count in counts) or not ascending:
        return Unknown(Why.NOT_A_NUMBER, "The histogram holds counts that are no counts.")
    if not math.isfinite(reading.value.total):
        return Unknown(Why.NOT_A_NUMBER, "The histogram's sum is not a number.")
    return reading


def ratio(numerator: Reading[float], denominator: Reading[float]) -> Reading[float]:
    """numerator / denominator; Unknown(NO_TRAFFIC) when the denominator is zero."""
    if isinstance(numerator, Unknown):
        return numerator
    if isinstance(denominator, Unknown):
        return denominator
    if denominator.value <= 0:
        return Unknown(Why.NO_TRAFFIC, "Nothing was counted in the window.")
    return Known(
        numerator.value / denominator.value,
        window=max(numerator.window, denominator.window),
        samples=denominator.samples,
    )


def quantile(histogram: Reading[Histogram], q: float, minimum_count: float) -> Reading[float]:
    """The q-quantile; Unknown with fewer than `minimum_count` observations."""
    if isinstance(histogram, Unknown):
        return histogram
    count = histogram.value.count
    if count <= 0:
        return Unknown(Why.NO_TRAFFIC, "No request was counted in the window.")
    if count < minimum_count:
        return Unknown(Why.TOO_FEW_SAMPLES, f"{count:.0f} observations are too few for the {q:.0%} quantile.")
    return finite(Known(histogram.value.quantile(q), window=histogram.window, samples=count))


def mean(histogram: Reading[Histogram]) -> Reading[float]:
    """The mean of the observations, exact whatever the buckets are."""
    if isinstance(histogram, Unknown):
        return histogram
    if histogram.value.count <= 0:
        return Unknown(Why.NO_TRAFFIC, "No request was counted in the window.")
    return finite(Known(histogram.value.mean, window=histogram.window, samples=histogram.value.count))


def pooled(pods: Iterable[ObservedPod], pick: Callable[[PodMetrics], Reading[Histogram]]) -> Reading[Histogram]:
    """The sum of the known histograms of `pods`; Unknown when there is none or when their buckets differ."""
    readings = [sound(pick(pod.metrics)) for pod in pods]
    known = [reading for reading in readings if isinstance(reading, Known)]
    if not known:
        return next((reading for reading in readings if isinstance(reading, Unknown)), _NO_POD)
    try:
        whole = merged(reading.value for reading in known)
    except ValueError:
        return Unknown(Why.BAD_ANSWER, "The pods of one revision export different buckets.")
    if whole is None:
        return _NO_POD
    return Known(whole, window=max(reading.window for reading in known), samples=whole.count)


def values(pods: Iterable[ObservedPod], pick: Callable[[PodMetrics], Reading[float]]) -> Reading[tuple[float, ...]]:
    """The known values, one per pod; Unknown when there is none. `samples` is the fewest behind one value."""
    readings = [finite(pick(pod.metrics)) for pod in pods]
    known = [reading for reading in readings if isinstance(reading, Known)]
    if not known:
        return next((reading for reading in readings if isinstance(reading, Unknown)), _NO_POD)
    return Known(
        tuple(reading.value for reading in known),
        window=max(reading.window for reading in known),
        samples=sum(reading.samples for reading in known),
    )

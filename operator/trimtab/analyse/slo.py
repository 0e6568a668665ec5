"""The state of the SLO: every target met, violated or Unknown, by the share of requests above its threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from trimtab.analyse.readings import finite, pooled, quantile, ratio, values
from trimtab.model.bottleneck import TargetState
from trimtab.model.histogram import Histogram
from trimtab.model.reading import Known, Reading, Unknown, mapped
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.snapshot import ObservedPod, PodMetrics

# Fewer observations than this decide nothing, in either direction.
_MINIMUM = 10.0
# A violation is believed on few observations when chance alone would show it this rarely.
_CHANCE = 0.01

_PICK: Mapping[Latency, Callable[[PodMetrics], Reading[Histogram]]] = {
    Latency.TTFT: lambda metrics: metrics.ttft,
    Latency.ITL: lambda metrics: metrics.itl,
    Latency.E2E: lambda metrics: metrics.e2e,
}


def evaluate(pods: tuple[ObservedPod, ...], slo: Slo) -> tuple[TargetState, ...]:
    """Each latency target against the pooled histogram of `pods`."""
    return tuple(_state(target, pooled(pods, _PICK[target.metric])) for target in slo.latencies)


def error_share(pods: tuple[ObservedPod, ...]) -> Reading[float]:
    """Requests that ended in an error or were refused, per request that ended."""
    errors = mapped(values(pods, lambda m: m.error_rate), sum)
    return ratio(errors, mapped(values(pods, lambda m: m.request_rate), sum))


def verdict(
    targets: tuple[TargetState, ...], slo: Slo, errors: Reading[float], tokens: Reading[float], waiting: Reading[float]
) -> bool | None:
    """All targets together: False when one is violated, True when all are met, None when one is Unknown or none set."""
    states = [state.met for state in targets]
    if slo.max_error_share is not None:
        states.append(errors.value <= slo.max_error_share if isinstance(errors, Known) else None)
    if slo.min_output_tokens_per_second is not None:
        states.append(throughput_met(slo.min_output_tokens_per_second, tokens, waiting))
    if not states:
        return None
    if any(state is False for state in states):
        return False
    return None if any(state is None for state in states) else True


def throughput_met(floor: float, tokens: Reading[float], waiting: Reading[float]) -> bool | None:
    """Below the floor is a violation only while requests wait: without a queue, all that was asked for is served."""
    if isinstance(tokens, Unknown):
        return None
    if tokens.value >= floor:
        return True
    return None if isinstance(waiting, Unknown) else waiting.value < 1.0


def _state(target: LatencyTarget, histogram: Reading[Histogram]) -> TargetState:
    measured = quantile(histogram, target.percentile / 100.0, _MINIMUM)
    if isinstance(histogram, Unknown) or isinstance(measured, Unknown):
        reason = histogram if isinstance(histogram, Unknown) else measured
        assert isinstance(reason, Unknown)
        return TargetState(target, reason, reason, None)
    share = finite(
        Known(histogram.value.share_above(target.seconds), window=histogram.window, samples=histogram.value.count)
    )
    met = _met(share.value, target.allowed_share, histogram.value.count) if isinstance(share, Known) else None
    return TargetState(target, measured, share, met)


def _met(share: float, allowed: float, count: float) -> bool | None:
    """Met or violated; None while `count` is too small for the percentile and what was seen may be chance."""
    if count * allowed >= 1.0:
        return share <= allowed + 1e-9
    above = round(share * count)
    return False if above and _at_least(above, round(count), allowed) < _CHANCE else None


def _at_least(hits: int, trials: int, chance: float) -> float:
    """P(X >= hits) for X binomial."""
    return sum(math.comb(trials, k) * chance**k * (1.0 - chance) ** (trials - k) for k in range(hits, trials + 1))

"""One prediction as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.plan.performance.coefficients import Coefficients
from trimtab.plan.performance.forecast import Correction, Forecast, forecast
from trimtab.plan.performance.tails import Latency
from trimtab.plan.point import ServingPoint, Traffic


@dataclass(frozen=True, slots=True)
class Figure:
    """Milliseconds. The mean lies between `low` and `high` in 90 of 100 cases; `upper` is held against an SLO."""

    mean: float
    p50: float
    p95: float
    p99: float
    low: float
    high: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What `Forecast` holds, of one question. Rates are per second and replica, infinite times mean saturation."""

    ttft: Figure
    itl: Figure
    e2e: Figure
    tpot: float  # ms
    output_tokens: float
    output_tokens_low: float
    output_tokens_high: float
    requests: float
    running: float
    kv_use: float
    most_requests: float
    saturated: bool
    fits: bool


def predict(
    point: ServingPoint,
    traffic: Traffic,
    *,
    coefficients: Coefficients | None = None,
    correction: Correction | None = None,
) -> Prediction:
    """Raises ValueError as `forecast` does."""
    found = forecast([point], [traffic], coefficients=coefficients, correction=correction)
    low, high = (float(side[0]) for side in found.output_tokens_range)
    return Prediction(
        ttft=_figure(found.ttft, found.ttft_range.low[0], found.ttft_range.high[0], found.ttft_range.upper[0]),
        itl=_scaled(found.itl, found),
        e2e=_e2e(found, traffic),
        tpot=float(found.tpot[0]),
        output_tokens=float(found.output_tokens[0]),
        output_tokens_low=low,
        output_tokens_high=high,
        requests=float(found.requests[0]),
        running=float(found.running[0]),
        kv_use=float(found.kv_use[0]),
        most_requests=float(found.most_requests[0]),
        saturated=bool(found.saturated[0]),
        fits=bool(found.fits[0]),
    )


def _figure(latency: Latency, low: float, high: float, upper: float) -> Figure:
    return Figure(
        mean=float(latency.mean[0]),
        p50=float(latency.p50[0]),
        p95=float(latency.p95[0]),
        p99=float(latency.p99[0]),
        low=float(low),
        high=float(high),
        upper=float(upper),
    )


def _scaled(latency: Latency, found: Forecast) -> Figure:
    """A gap's relative interval is that of the time per token."""
    band, mean = found.tpot_range, float(latency.mean[0])
    low, high, upper = (mean * float(side[0]) / float(found.tpot[0]) for side in (band.low, band.high, band.upper))
    return _figure(latency, low, high, upper)


def _e2e(found: Forecast, traffic: Traffic) -> Figure:
    """Both parts at their ends together, as they err together: the wider reading."""
    steps = max(traffic.output - 1.0, 0.0)
    first, each = found.ttft_range, found.tpot_range
    low, high, upper = (
        float(getattr(first, side)[0]) + steps * float(getattr(each, side)[0]) for side in ("low", "high", "upper")
    )
    return _figure(found.e2e, low, high, upper)

"""The performance model's forecast of many options at once, as columns that a choice is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.model.slo import Latency, LatencyTarget
from trimtab.plan.performance import Correction, Forecast, Range, forecast
from trimtab.plan.point import ServingPoint, Traffic
from trimtab.plan.search.candidates import Z90, Bools, Candidates, Estimate, Floats

_LEVELS = ("mean", "p50", "p95", "p99")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Predictions for one option. Latencies in seconds by name (`ttft.p95`, `itl.mean`, ...), rates per second.

    `bounds` are what targets are held against: the latency stays below with the stated confidence. `throughput` counts
    output tokens of all replicas; its interval holds 90 of 100 times.
    """

    latencies: Mapping[str, float]
    bounds: Mapping[str, float]
    throughput: float
    throughput_interval: tuple[float, float]
    kv_use: float
    running: float  # sequences per replica
    saturated: bool
    most_requests: float  # per second, that all replicas can serve


@dataclass(frozen=True, slots=True)
class Outlook:
    """Columns of one entry per option; latencies in seconds, throughput in output tokens per second of all replicas."""

    forecast: Forecast
    replicas: Floats
    latencies: dict[str, Floats]
    bounds: dict[str, Floats]
    throughput: Floats

    @classmethod
    def of(
        cls,
        points: Sequence[ServingPoint],
        traffic: Sequence[Traffic],
        replicas: Sequence[int],
        correction: Correction | None = None,
    ) -> Outlook:
        """Forecasts every option. Raises ValueError for a device whose rates are not known."""
        found = forecast(points, traffic, correction=correction)
        output = np.array([t.output for t in traffic])
        over = {
            Latency.TTFT: _ratio(found.ttft_range.upper, found.ttft.mean),
            Latency.ITL: _ratio(found.tpot_range.upper, found.tpot),
        }
        decode = np.maximum(output - 1.0, 0.0) * found.tpot
        whole = found.ttft.mean * over[Latency.TTFT] + decode * over[Latency.ITL]
        over[Latency.E2E] = _ratio(whole, found.ttft.mean + decode)
        latencies, bounds = {}, {}
        for latency, levels in ((Latency.TTFT, found.ttft), (Latency.ITL, found.itl), (Latency.E2E, found.e2e)):
            for level in _LEVELS:
                name, value = f"{latency.value}.{level}", getattr(levels, level) / 1e3
                latencies[name], bounds[name] = value, value * over[latency]
        many = np.array(replicas, np.float64)
        return cls(found, many, latencies, bounds, found.output_tokens * many)

    @property
    def count(self) -> int:
        return len(self.throughput)

    @property
    def gpus(self) -> Floats:
        """Of all replicas."""
        return self.forecast.gpus * self.replicas

    def served(self) -> Bools:
        """What arrives is served, and a request fits."""
        return np.asarray(self.forecast.fits & ~self.forecast.saturated)

    def meets(self, targets: Sequence[LatencyTarget]) -> Bools:
        """Every target is kept by the bound of its latency, and what arrives is served."""
        kept = self.served()
        for target in targets:
            kept = kept & (self.bounds[target.name] <= target.seconds)
        return np.asarray(kept)

    def excess(self, targets: Sequence[LatencyTarget]) -> Floats:
        """The largest ratio of a bound to its target; infinite where requests are not served."""
        worst = np.where(self.served(), 0.0, np.inf)
        for target in targets:
            worst = np.maximum(worst, self.bounds[target.name] / target.seconds)
        return np.asarray(worst)

    def figures(self, row: int) -> Figures:
        """One option's predictions."""
        low, high = (float(bound[row] * self.replicas[row]) for bound in self.forecast.output_tokens_range)
        return Figures(
            latencies={name: float(values[row]) for name, values in self.latencies.items()},
            bounds={name: float(values[row]) for name, values in self.bounds.items()},
            throughput=float(self.throughput[row]),
            throughput_interval=(low, high),
            kv_use=float(self.forecast.kv_use[row]),
            running=float(self.forecast.running[row]),
            saturated=bool(self.forecast.saturated[row]),
            most_requests=float(self.forecast.most_requests[row] * self.replicas[row]),
        )

    def candidates(self, features: Floats, percentiles: Sequence[str] = ()) -> Candidates:
        """The same as estimates in log space, for choices, ratios between options and the order of steps.

        Beside throughput and the means of all latencies those of `percentiles`, such as `ttft.p95`, each with the
        relative error of its mean.
        """
        found = self.forecast
        tokens = (bound * self.replicas for bound in found.output_tokens_range)
        first, between = _seconds(found.ttft_range), _seconds(found.tpot_range)
        ttft, e2e = self.latencies["ttft.mean"], self.latencies["e2e.mean"]
        decode = np.subtract(e2e, ttft, where=np.isfinite(ttft), out=np.zeros(self.count))
        steps = decode / (found.tpot / 1e3)
        means = {
            "throughput": (self.throughput, *tokens),
            "ttft.mean": (self.latencies["ttft.mean"], *first),
            "itl.mean": (found.tpot / 1e3, *between),
            "e2e.mean": (self.latencies["e2e.mean"], *(f + steps * b for f, b in zip(first, between, strict=True))),
        }
        metrics = {name: _estimate(*values) for name, values in means.items()}
        for name in percentiles:
            metrics[name] = Estimate(_log(self.latencies[name]), metrics[f"{name.split('.')[0]}.mean"].sd)
        return Candidates(features, metrics)


def _estimate(value: Floats, low: Floats, high: Floats) -> Estimate:
    """From a value and its 90 % interval; what is not served has an infinite mean and no deviation."""
    with np.errstate(invalid="ignore"):
        width = np.log(high) - np.log(low)
    return Estimate(_log(value), np.where(np.isfinite(width), width, 0.0) / (2 * Z90))


def _log(values: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(values, 1e-12)))


def _seconds(found: Range) -> tuple[Floats, Floats]:
    return found.low / 1e3, found.high / 1e3


def _ratio(upper: Floats, mean: Floats) -> Floats:
    return np.divide(upper, mean, out=np.ones_like(mean), where=np.isfinite(mean) & (mean > 0))

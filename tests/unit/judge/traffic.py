"""Small recordings for tests: requests are drawn with a fixed seed, then counted as an engine would count them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from trimtab.judge.history import (
    ERRORS,
    PREEMPTIONS,
    REQUESTS,
    RESTARTS,
    RUNNING,
    TOKENS,
    WAITING,
    Floats,
    History,
)
from trimtab.judge.samples import PodSamples, Samples, history_of
from trimtab.model.slo import Latency

INTERVAL = 15.0
BOUNDS: Mapping[Latency, tuple[float, ...]] = {
    Latency.TTFT: (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, np.inf),
    Latency.ITL: (0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, np.inf),
}


@dataclass(frozen=True, slots=True)
class Pod:
    """What one pod does in each interval. Factors may be numbers or one for each interval."""

    name: str
    canary: bool = False
    itl: float | Floats = 1.0
    ttft: float | Floats = 1.0
    load: float | Floats = 1.0
    errors: float | Floats = 0.0  # share of the requests
    preemptions: float = 0.0  # per request
    restarts_in: tuple[int, ...] = ()
    waiting: float | Floats = 0.0  # at the end of each interval
    tokens: float = 50.0  # per request
    running: float = 4.0
    ending: float = 1.0  # share of the requests at work in an interval that begin and end in it; others stream on


@dataclass(frozen=True, slots=True)
class Traffic:
    """`intervals` of `requests` a pod, at 20 ms and 200 ms."""

    pods: tuple[Pod, ...]
    intervals: int = 20
    requests: int = 200
    seed: int = 7
    scale: float = 1.0  # of time: interval, latencies
    left_out: frozenset[str] = field(default_factory=frozenset)

    def samples(self) -> list[PodSamples]:
        return [self._pod(number, pod) for number, pod in enumerate(self.pods)]

    def history(self, looks: int | None = None) -> History:
        return history_of(
            self.samples(), interval=INTERVAL * self.scale, began=0.0, looks=self.intervals if looks is None else looks
        )

    def _pod(self, number: int, pod: Pod) -> PodSamples:
        random = np.random.default_rng([self.seed, number])
        times = INTERVAL * self.scale * np.arange(self.intervals + 1, dtype=np.float64)
        each = {name: _each(value, self.intervals) for name, value in _factors(pod).items()}
        counts = np.round(self.requests * each["load"]).astype(int)
        rows: dict[Latency, list[Floats]] = {latency: [] for latency in BOUNDS}
        for place, count in enumerate(counts):
            for latency, median, spread in ((Latency.TTFT, 0.2, 0.5), (Latency.ITL, 0.02, 0.2)):
                # Quantiles in place of draws, with a little noise: small counts stay like each other.
                seen = round(count * pod.ending) if latency is Latency.TTFT else count
                points = (np.arange(seen) + 0.5) / max(seen, 1)
                values = np.exp(spread * _normal(points) + 0.02 * random.standard_normal())
                values = values * median * each[latency.value][place] * self.scale
                bounds = np.array(BOUNDS[latency]) * self.scale
                below = [float((values <= bound).sum()) for bound in bounds]
                rows[latency].append(np.array([*below, float(values.sum())]))
        histograms = {
            latency: Samples(times, _cumulative(np.array(found)), tuple(np.array(BOUNDS[latency]) * self.scale))
            for latency, found in rows.items()
        }
        restarts = np.array([float(place in pod.restarts_in) for place in range(self.intervals)])
        counters = {
            REQUESTS: np.round(counts * pod.ending),
            ERRORS: np.round(counts * each["errors"]),
            PREEMPTIONS: counts * pod.preemptions,
            RESTARTS: restarts,
            TOKENS: counts * pod.tokens,
        }
        gauges = {
            name: _each(value, self.intervals) for name, value in ((RUNNING, pod.running), (WAITING, pod.waiting))
        }
        return PodSamples(
            name=pod.name,
            canary=pod.canary,
            histograms={key: value for key, value in histograms.items() if key.value not in self.left_out},
            counters={
                key: Samples(times, _cumulative(value[:, None]))
                for key, value in counters.items()
                if key not in self.left_out
            },
            gauges={
                key: Samples(times, np.append(value[:1], value)[:, None])
                for key, value in gauges.items()
                if key not in self.left_out
            },
        )


def stable(*speeds: float) -> tuple[Pod, ...]:
    """One stable pod for each of these factors on both latencies; four that differ by a few per cent by default."""
    speeds = speeds or (0.98, 0.99, 1.01, 1.02)
    return tuple(Pod(f"s-{number}", itl=speed, ttft=speed) for number, speed in enumerate(speeds))


def _factors(pod: Pod) -> dict[str, float | Floats]:
    return {"itl": pod.itl, "ttft": pod.ttft, "load": pod.load, "errors": pod.errors}


def _each(value: float | Floats, intervals: int) -> Floats:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (intervals,))


def _cumulative(added: Floats) -> Floats:
    return np.concatenate((np.zeros((1, added.shape[1])), np.cumsum(added, axis=0)))


def _normal(points: Floats) -> Floats:
    """Quantiles of the normal distribution by the logistic approximation, near enough for latencies."""
    return np.log(points / (1 - points)) / 1.702

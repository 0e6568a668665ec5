"""Recordings of a canary and its stable pods, simulated request by request and scraped every five seconds.

What makes judging hard is in it: load that swings by two within minutes, arrivals in bursts, latencies that follow the
load of the pod, noise that lasts for half a minute, pods of one revision that differ persistently, nodes that slow all
their pods for a minute. Nothing in here knows how the judge works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trimtab.judge.history import ERRORS, REQUESTS, RESTARTS, RUNNING, WAITING, Floats
from trimtab.judge.samples import PodSamples, Samples
from trimtab.model.slo import Latency

SCRAPE = 5.0
PER_INTERVAL = 3
# vLLM's bounds, seconds (vllm/v1/metrics/loggers.py, 0.11 and later), without those that no request here reaches.
BOUNDS: Mapping[Latency, tuple[float, ...]] = {
    Latency.TTFT: (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    Latency.ITL: (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    Latency.E2E: (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
}
_TOKEN_GROUPS = 4  # tokens of one request fall into so many values: tokens of a step share its time


@dataclass(frozen=True, slots=True)
class World:
    """What all pods live in. `requests`: mean per pod and interval of 15 s. Spreads are of logarithms."""

    requests: float = 300.0
    pod_spread: float = 0.03
    pods_alike: float = 0.9  # correlation of a pod's effects on ITL and on TTFT
    stable: int = 4
    canary: int = 1
    itl: float = 0.020  # seconds, the median request's at mean load
    ttft: float = 0.180
    tokens: float = 90.0
    itl_by_load: float = 0.4
    ttft_by_load: float = 0.9
    unevenness: float = 0.04  # of a pod's share of the arrivals, lasting about half a minute
    dispersion: float = 2.5  # variance of a pod's arrivals over Poisson's: requests come in small crowds
    noise: float = 0.015  # of a pod's speed, lasting about half a minute
    nodes: int = 3
    node_events: float = 1.0  # in a quarter of an hour, over all nodes
    intervals: int = 60


@dataclass(frozen=True, slots=True)
class Change:
    """What the canary's configuration does. Factors on latencies, shares of requests or tokens."""

    itl: float = 1.0
    ttft: float = 1.0
    load: float = 1.0
    errors: float = 0.0
    slow_tokens: float = 0.0  # the share of tokens that take `slower` times as long
    slower: float = 4.0
    from_interval: int = 0


@dataclass
class Recording:
    """One simulated canary. Requests are drawn in pieces: a judge that stops early costs no more than it reads."""

    world: World
    change: Change
    seed: int
    _steps: int = 0
    _sums: dict[Latency, list[Floats]] = field(default_factory=dict)
    _counts: dict[str, list[Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        world, random = self.world, self._random
        pods, steps = world.stable + world.canary, world.intervals * PER_INTERVAL
        self.is_canary = np.arange(pods) >= world.stable
        self._load = _swings(random, steps)[:, None] * np.exp(world.unevenness * _lasting(random, (steps, pods), 0.85))
        self._load[:, self.is_canary] *= self.change.load
        shared = random.standard_normal(pods)
        own = random.standard_normal(pods)
        alike = world.pods_alike
        self._itl_pod = world.pod_spread * shared
        self._ttft_pod = world.pod_spread * (alike * shared + np.sqrt(1 - alike**2) * own)
        self._slow = _lasting(random, (steps, pods), 0.85) * world.noise + _node_events(random, world, steps, pods)

    def pods(self, intervals: int) -> list[PodSamples]:
        """The cumulative samples of all pods after so many intervals, the first sample at time 0."""
        while self._steps < intervals * PER_INTERVAL:
            self._draw(min(20 * PER_INTERVAL, self.world.intervals * PER_INTERVAL - self._steps))
        length = intervals * PER_INTERVAL
        times = SCRAPE * np.arange(length + 1, dtype=np.float64)
        found = []
        histograms = {latency: _cumulative(parts, length) for latency, parts in self._sums.items()}
        counters = {name: _cumulative(parts, length)[..., None] for name, parts in self._counts.items()}
        for pod in range(len(self.is_canary)):
            zeros = {name: Samples(times, np.zeros((length + 1, 1))) for name in (RESTARTS, WAITING)}
            gauges = {RUNNING: Samples(times, np.full((length + 1, 1), 4.0)), WAITING: zeros[WAITING]}
            counted = {name: Samples(times, values[:, pod]) for name, values in counters.items()}
            found.append(
                PodSamples(
                    name=f"{'c' if self.is_canary[pod] else 's'}-{pod}",
                    canary=bool(self.is_canary[pod]),
                    histograms={
                        latency: Samples(times, values[:, pod], (*BOUNDS[latency], np.inf))
                        for latency, values in histograms.items()
                    },
                    counters={**counted, RESTARTS: zeros[RESTARTS]},
                    gauges=gauges,
                )
            )
        return found

    def _draw(self, steps: int) -> None:
        """The requests of the next steps, and what they add to every series."""
        world, change, random = self.world, self.change, self._random
        span = slice(self._steps, self._steps + steps)
        load = self._load[span]
        expected = world.requests / PER_INTERVAL * load
        crowd = world.dispersion - 1
        count = random.poisson(random.gamma(expected / crowd, crowd))
        shape = count.shape
        cell = np.repeat(np.arange(count.size), count.ravel())
        canary = np.broadcast_to(self.is_canary, shape).ravel()[cell]
        late = (np.arange(span.start, span.stop) >= change.from_interval * PER_INTERVAL)[:, None]
        changed = canary & np.broadcast_to(late, shape).ravel()[cell]
        speed = self._slow[span]
        itl_cell = np.log(world.itl) + world.itl_by_load * np.log(load) + speed + self._itl_pod
        ttft_cell = np.log(world.ttft) + world.ttft_by_load * np.log(load) + 1.5 * speed + self._ttft_pod
        size = cell.size
        itl = np.exp(itl_cell.ravel()[cell] + 0.17 * random.standard_normal(size))
        ttft = np.exp(ttft_cell.ravel()[cell] + 0.5 * random.standard_normal(size))
        itl[changed] *= change.itl
        ttft[changed] *= change.ttft
        failed = changed & (random.random(size) < change.errors)
        failed |= random.random(size) < 0.0005
        tokens = np.maximum(2, random.lognormal(np.log(world.tokens), 0.6, size)).astype(np.int64)
        slow = np.where(changed, random.poisson(tokens * change.slow_tokens), 0) if change.slow_tokens else 0 * tokens
        slow = np.minimum(slow, tokens)
        good = ~failed
        total = count.size
        self._add(REQUESTS, count.astype(float))
        self._add(ERRORS, np.bincount(cell[failed], minlength=total).reshape(shape).astype(float))
        itl_sum = np.zeros(size)
        buckets = np.zeros((count.size, len(BOUNDS[Latency.ITL]) + 1))
        for _ in range(_TOKEN_GROUPS):
            weight = (tokens - slow - 1) / _TOKEN_GROUPS
            value = itl * np.exp(0.25 * random.standard_normal(size))
            itl_sum += weight * value
            _into(buckets, cell[good], value[good], weight[good], Latency.ITL)
        if change.slow_tokens:
            value = change.slower * itl * np.exp(0.25 * random.standard_normal(size))
            itl_sum += slow * value
            _into(buckets, cell[good], value[good], slow[good].astype(float), Latency.ITL)
        self._histogram(Latency.ITL, buckets, cell[good], itl_sum[good], shape)
        for latency, value in ((Latency.TTFT, ttft), (Latency.E2E, ttft + itl_sum)):
            buckets = np.zeros((count.size, len(BOUNDS[latency]) + 1))
            _into(buckets, cell[good], value[good], np.ones(int(good.sum())), latency)
            self._histogram(latency, buckets, cell[good], value[good], shape)
        self._steps += steps

    def _add(self, name: str, values: Floats) -> None:
        self._counts.setdefault(name, []).append(values)

    def _histogram(
        self, latency: Latency, buckets: Floats, cell: NDArray[np.intp], values: Floats, shape: tuple[int, ...]
    ) -> None:
        below = np.cumsum(buckets, axis=1).reshape(*shape, -1)
        total = np.bincount(cell, values, minlength=shape[0] * shape[1]).reshape(*shape, 1)
        self._sums.setdefault(latency, []).append(np.concatenate((below, total), axis=2))


def _into(buckets: Floats, cell: NDArray[np.intp], values: Floats, weights: Floats, latency: Latency) -> None:
    columns = buckets.shape[1]
    place = cell * columns + np.searchsorted(BOUNDS[latency], values)
    buckets += np.bincount(place, weights, minlength=buckets.size).reshape(buckets.shape)


def _cumulative(parts: list[Floats], length: int) -> Floats:
    added = np.concatenate(parts)[:length]
    return np.concatenate((np.zeros((1, *added.shape[1:])), np.cumsum(added, axis=0)))


def _lasting(random: np.random.Generator, shape: tuple[int, int], memory: float) -> Floats:
    """Standard normal noise along the first axis with this correlation from step to step."""
    fresh = random.standard_normal(shape)
    values = np.empty(shape)
    values[0] = fresh[0]
    for step in range(1, shape[0]):
        values[step] = memory * values[step - 1] + np.sqrt(1 - memory**2) * fresh[step]
    return values


def _swings(random: np.random.Generator, steps: int) -> Floats:
    """The load that all pods share: by two up and down over two to six minutes, and unrest on top."""
    time = SCRAPE * np.arange(steps)
    period, phase = random.uniform(120, 360), random.uniform(0, 2 * np.pi)
    wave = 0.5 * np.log(2) * np.sin(2 * np.pi * time / period + phase)
    unrest = 0.15 * _lasting(random, (steps, 1), 0.9)[:, 0]
    return np.asarray(np.exp(wave + unrest))


def _node_events(random: np.random.Generator, world: World, steps: int, pods: int) -> Floats:
    """ln of how much slower each pod is for its node's sake."""
    slow = np.zeros((steps, pods))
    node = random.integers(0, world.nodes, pods)
    expected = world.node_events / world.nodes * steps * SCRAPE / 900
    for one in range(world.nodes):
        for _ in range(random.poisson(expected)):
            begin = int(random.integers(0, steps))
            slow[begin : begin + int(60 / SCRAPE), node == one] += np.log(random.uniform(1.15, 1.6))
    return slow

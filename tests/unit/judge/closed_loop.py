"""Clients that each send a request, wait for its answer and send the next, to pods with few or many seats.

Every scrape is taken as Prometheus would take it, each pod at a moment of its own, and no judge knows how it was made.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trimtab.model.samples import ERRORS, REQUESTS, RUNNING, WAITING, PodSamples, Samples
from trimtab.model.slo import Latency

TTFT = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20)
ITL = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2, 5)
E2E = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 25, 30, 40, 60, 120)
BOUNDS = {Latency.TTFT: TTFT, Latency.ITL: ITL, Latency.E2E: E2E}


@dataclass
class Server:
    """A pod with `seats`; the time of a token grows with the requests that run. `since`: when it is found."""

    name: str
    seats: int
    canary: bool = False
    since: float = 0.0
    token: float = 0.02  # seconds, alone
    crowding: float = 0.02  # of it more for each further request
    running: list[float] = field(default_factory=list)
    queue: list[float] = field(default_factory=list)
    seen: dict[Latency, list[tuple[float, float, int]]] = field(default_factory=lambda: {name: [] for name in Latency})


def recorded(
    servers: Sequence[Server],
    *,
    clients: int = 16,
    tokens: int = 32,
    seconds: float = 120.0,
    scrape: float = 5.0,
    step: float = 5.0,
    seed: int = 1,
) -> list[PodSamples]:
    """The samples of all pods at whole steps from 0, each up to a scrape old; the canary joins at its `since`."""
    random = np.random.default_rng(seed)
    events: list[tuple[float, int, Server | None, float]] = []
    number = 0
    gauges: dict[str, list[tuple[float, int, int]]] = {server.name: [(-1e9, 0, 0)] for server in servers}

    def push(at: float, server: Server | None, sent: float) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (at, number, server, sent))

    def begin(server: Server, now: float, sent: float) -> None:
        server.running.append(sent)
        token = server.token * (1 + server.crowding * (len(server.running) - 1)) * random.lognormal(0, 0.05)
        first = now - sent + 2 * token
        server.seen[Latency.TTFT].append((sent + first, first, 1))
        end = now + (tokens + 1) * token
        server.seen[Latency.ITL].append((end, token, tokens - 1))
        server.seen[Latency.E2E].append((end, end - sent, 1))
        push(end, server, sent)

    for _ in range(clients):
        push(-40.0 + float(random.random()), None, 0.0)
    while events:
        now, _, server, sent = heapq.heappop(events)
        if now > seconds:
            break
        if server is not None:
            server.running.remove(sent)
            if server.queue:
                begin(server, now, server.queue.pop(0))
            gauges[server.name].append((now, len(server.running), len(server.queue)))
        open_ones = [one for one in servers if now >= one.since or not one.canary]
        chosen = open_ones[int(random.integers(len(open_ones)))]
        if len(chosen.running) < chosen.seats:
            begin(chosen, now, now)
        else:
            chosen.queue.append(now)
        gauges[chosen.name].append((now, len(chosen.running), len(chosen.queue)))
    return [_scraped(one, gauges[one.name], float(random.random()) * scrape, seconds, scrape, step) for one in servers]


def _scraped(
    server: Server, gauges: list[tuple[float, int, int]], phase: float, seconds: float, scrape: float, step: float
) -> PodSamples:
    times = np.arange(-step, seconds + 1e-9, step)
    if server.canary:
        times = times[times >= server.since + phase]
    taken = np.floor((times - phase) / scrape) * scrape + phase
    histograms = {latency: _histogram(server.seen[latency], BOUNDS[latency], times, taken) for latency in Latency}
    ended = histograms[Latency.E2E].values[:, -2:-1]
    at = np.array([moment for moment, _, _ in gauges])
    place = np.maximum(np.searchsorted(at, taken, side="right") - 1, 0)
    states = np.array([(running, waiting) for _, running, waiting in gauges], dtype=np.float64)[place]
    return PodSamples(
        name=server.name,
        canary=server.canary,
        histograms=histograms,
        counters={REQUESTS: Samples(times, ended), ERRORS: Samples(times, 0 * ended)},
        gauges={RUNNING: Samples(times, states[:, :1]), WAITING: Samples(times, states[:, 1:])},
    )


def _histogram(
    seen: list[tuple[float, float, int]], edges: Sequence[float], times: np.ndarray, taken: np.ndarray
) -> Samples:
    bounds = (*map(float, edges), np.inf)
    if not seen:
        return Samples(times, np.zeros((len(times), len(bounds) + 1)), bounds)
    at, value, weight = (np.array(column, dtype=np.float64) for column in zip(*sorted(seen), strict=True))
    rows = []
    for moment in taken:
        there = at <= moment
        below = [float(weight[there & (value <= bound)].sum()) for bound in bounds]
        rows.append([*below, float((weight * value)[there].sum())])
    return Samples(times, np.array(rows), bounds)

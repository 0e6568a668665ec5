"""One emulated engine under load in virtual time: what a canary would measure, in seconds instead of minutes.

The scheduler and the step times are those of the engine emulator (`tests/testkit/emulator`), which a contract test
holds to real vLLM; only its clock is replaced by the sum of the steps.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import numpy as np

from tests.testkit.emulator.profile import Factors, Profile
from tests.testkit.emulator.scheduler import Limits, Request, Scheduler

_WARM_UP = 0.25  # part of the requests that is not measured


@dataclass(frozen=True, kw_only=True)
class Load:
    """Closed loop of `clients`, or open loop with `rate` requests per second (Poisson). Lengths are means in tokens,
    `variation` their coefficient of variation.
    """

    prompt: float
    output: float
    clients: int | None = None
    rate: float | None = None
    variation: float = 0.3


@dataclass
class _Seen:
    ttft: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    tokens: int = 0
    since: float | None = None


def serve(
    limits: Limits, profile: Profile, factor: Factors, load: Load, *, seed: int, requests: int
) -> dict[str, float]:
    """Serves `requests` requests and returns `throughput` (output tokens/s), `ttft_p95`, `itl_p95`, `itl_mean` (s)."""
    source = random.Random(seed)
    scheduler = Scheduler(limits)
    arrivals = _arrivals(load, requests, source)
    seen, started, done, now = _Seen(), 0, 0, 0.0
    left = requests - len(arrivals)
    while done < requests:
        while arrivals and arrivals[0] <= now:
            scheduler.add(_request(started, heapq.heappop(arrivals), load, limits, source))
            started += 1
        step = scheduler.schedule(now)
        if step is None:
            now = arrivals[0]
            continue
        now += profile.step_seconds(step, factor)
        outcome = scheduler.complete(step, now)
        if seen.since is None and done >= _WARM_UP * requests:
            seen.since = now
        if seen.since is not None:
            seen.tokens += len(outcome.emitted)
            seen.gaps += outcome.inter_token_seconds
            seen.ttft += [now - request.arrived for request in outcome.first_tokens]
        done += len(outcome.finished)
        for _ in outcome.finished[: max(0, left)]:
            heapq.heappush(arrivals, now)
            left -= 1
    return {
        "throughput": seen.tokens / (now - (seen.since or 0.0)),
        "ttft_p95": float(np.percentile(seen.ttft, 95)),
        "itl_p95": float(np.percentile(seen.gaps, 95)),
        "itl_mean": float(np.mean(seen.gaps)),
    }


def _arrivals(load: Load, requests: int, source: random.Random) -> list[float]:
    """All arrivals of an open loop; the first of each client of a closed one, all within a second."""
    if load.rate is None:
        return sorted(source.random() for _ in range(min(requests, load.clients or 1)))
    times, now = [], 0.0
    for _ in range(requests):
        now += source.expovariate(load.rate)
        times.append(now)
    return times


def _request(number: int, arrived: float, load: Load, limits: Limits, source: random.Random) -> Request:
    def length(mean: float) -> int:
        return max(1, round(source.gammavariate(load.variation**-2, mean * load.variation**2)))

    prompt, output = length(load.prompt), length(load.output)
    longest = limits.max_model_len
    prompt = min(prompt, longest // 2)
    return Request(str(number), prompt, min(output, longest - prompt), arrived, lambda start, end: b"")

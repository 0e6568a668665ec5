"""Two servers measured in turns, and what their rounds say: ratios of medians, and what chance may have moved."""

from __future__ import annotations

import itertools
import math
import statistics
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.bench.serving.processes import Work, work
from tests.bench.serving.traffic import SEEDS, Running, run
from trimtab_engine.bench.result import Scenario

# The machine's speed changes within seconds, so servers that are compared have their turns soon after each other.
TURN: Mapping[str, Any] = {"seconds": 5.0, "settle": 1.0}
_MANY = 12  # values that are not all told


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A stretch of load, and the server's work for each token that it generated."""

    scenario: Scenario
    work: Work

    def shown(self) -> str:
        speed, each = f"{self.scenario.tokens_per_second:.1f} tok/s", self.work
        if math.isnan(each.all):
            return speed
        return f"{speed}, a token {1e6 * each.engine:.0f} µs in the engine and {1e6 * each.rest:.0f} beside it"


def generated(server: Running) -> float:
    """Tokens that a server has generated so far by vLLM's metrics; NaN where it has none."""
    try:
        page = server.get("/metrics")
    except urllib.error.HTTPError:
        return math.nan
    lines = [line for line in page.splitlines() if line.startswith("vllm:generation_tokens_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def in_turns(
    first: Running, second: Running, rounds: int, tell: Callable[[str], None], **load: Any
) -> tuple[list[Measured], list[Measured]]:
    """The same prompts to both, in turns; who begins changes from round to round."""
    found: tuple[list[Measured], list[Measured]] = ([], [])
    for number in range(rounds):
        seed = next(SEEDS)
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            server = (first, second)[which]
            before, tokens = work(server), generated(server)
            one = run(server, seed=seed, **load)
            if one.failures():
                raise RuntimeError(f"requests failed: {one.failures()}")
            each = work(server).since(before, generated(server) - tokens)
            found[which].append(Measured(scenario=one, work=each))
        tell(f"round {number + 1}: " + "; ".join(side[-1].shown() for side in found))
    return found


def ratio(over: list[Measured], under: list[Measured], of: Callable[[Measured], float | None]) -> tuple[float, str]:
    """The median of the rounds' ratios; and in words both medians, and how far chance may have moved their ratio."""
    pairs = [(of(a) or 0.0, of(b) or 0.0) for a, b in zip(over, under, strict=True)]
    ratios = [a / b for a, b in pairs]
    medians = tuple(statistics.median(side) for side in zip(*pairs, strict=True))
    return statistics.median(ratios), f"{medians[0]:.1f} over {medians[1]:.1f}; {spread(ratios)}"


def more_work(over: list[Measured], under: list[Measured]) -> tuple[float, str]:
    """How much more one side's processes beside the engine do for a token, in % of all that the other side does."""
    whole = statistics.median(one.work.all for one in under)
    more = [100 * (a.work.rest - b.work.rest) / whole for a, b in zip(over, under, strict=True)]
    each = [1e6 * statistics.median(one.work.rest for one in side) for side in (over, under)]
    return statistics.median(more), f"{each[0]:.0f} µs over {each[1]:.0f} of {1e6 * whole:.0f}; {spread(more)}"


def spread(values: Sequence[float]) -> str:
    """All values; of many, where their median lies with 95 %, by the ranks that a fair coin's throws would leave
    outside with 2.5 % on either side (Conover, "Practical Nonparametric Statistics", 1999, section 3.2)."""
    count = len(values)
    if count < _MANY:
        return "rounds " + ", ".join(f"{value:.3f}" for value in values)
    outside = itertools.accumulate(math.comb(count, below) / 2**count for below in range(count))
    rank = sum(share <= 0.025 for share in outside) - 1
    ordered = sorted(values)
    return f"{count} rounds, 95 %: {ordered[rank]:.3f} to {ordered[-1 - rank]:.3f}"


def ratio_at(over: list[Measured], under: list[Measured], kind: str, share: float) -> tuple[float, str]:
    """The ratio of a percentile of the requests of all rounds: that of one round rests on a few of them."""
    medians = ratio(over, under, lambda one: one.scenario.percentile(kind, share))[1]
    found = [np.concatenate([one.scenario.latencies(kind) for one in side]) for side in (over, under)]
    ours, theirs = (1e3 * float(np.quantile(values, share)) for values in found)
    counts = " and ".join(str(values.size) for values in found)
    return ours / theirs, f"{ours:.1f} over {theirs:.1f}, of {counts} requests; by round {medians}"

"""The kinds of canaries that are simulated, and what each must come to (issue of the judge, table of bars)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tests.bench.judge.simulate import Change, World
from trimtab.model.verdict import Call

Results = list[tuple[Call, int]]  # the verdict, and after how many intervals; Unknown after all of them


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of the table. `least`: whether the value must be at least the bar, or at most."""

    name: str
    value: Callable[[Results], float]
    bar: float
    least: bool
    unit: str = "%"

    def holds(self, value: float) -> bool:
        return value >= self.bar if self.least else value <= self.bar


@dataclass(frozen=True, slots=True)
class Cell:
    name: str
    world: World
    change: Change
    bars: tuple[Bar, ...] = ()
    harmful: bool = False


def share(call: Call, within: int = 10_000) -> Callable[[Results], float]:
    """Percent of recordings with this verdict after at most so many intervals."""
    return lambda results: 100 * sum(one is call and looks <= within for one, looks in results) / len(results)


def median_looks(call: Call) -> Callable[[Results], float]:
    """The median over all recordings; those without the verdict count as infinitely late."""
    return lambda results: float(np.median([looks if one is call else np.inf for one, looks in results]))


def _at_most(name: str, bar: float, value: Callable[[Results], float], unit: str = "%") -> Bar:
    return Bar(name, value, bar, False, unit)


def _at_least(name: str, bar: float, value: Callable[[Results], float]) -> Bar:
    return Bar(name, value, bar, True)


def _unchanged() -> Iterator[Cell]:
    for requests in (6, 30, 300):
        good = (_at_least("A/A called Good within 20 intervals", 92, share(Call.GOOD, 20)),) if requests == 300 else ()
        wrong = _at_most("A/A called Bad", 1, share(Call.BAD))
        yield Cell(f"A/A, {requests} requests", World(requests=requests), Change(), (wrong, *good))
    for requests in (6, 30, 300):
        world = World(requests=requests, pod_spread=0.10)
        wrong = _at_most("A/A called Bad", 1, share(Call.BAD))
        yield Cell(f"A/A, pods differ by 10 %, {requests} requests", world, Change(), (wrong,))
    for requests in (300, 30):
        wrong = _at_most("healthy canary called Bad", 1, share(Call.BAD))
        yield Cell(f"1.25 times the load, {requests} requests", World(requests=requests), Change(load=1.25), (wrong,))


def _slower() -> Iterator[Cell]:
    soon = _at_least("found within 10 intervals", 90, share(Call.BAD, 10))
    later = _at_least("found within 20 intervals", 97, share(Call.BAD, 20))
    last = _at_least("found within 40 intervals", 95, share(Call.BAD, 40))
    for requests, bars in ((300, (soon, later)), (30, (last,))):
        yield Cell(f"ITL 20 % worse, {requests} requests", World(requests=requests), Change(itl=1.2), bars, True)
    found = _at_least("found", 98, share(Call.BAD))
    median = _at_most("found, median", 3, median_looks(Call.BAD), "intervals")
    for requests in (300, 30):
        world, change = World(requests=requests), Change(ttft=2.0)
        yield Cell(f"TTFT twice as long, {requests} requests", world, change, (found, median), True)
    tail = _at_least("found", 95, share(Call.BAD))
    slow = Change(slow_tokens=0.027)
    yield Cell("2.7 % of tokens four times slower, 300 requests", World(requests=300), slow, (tail,), True)


def _failing() -> Iterator[Cell]:
    found = _at_least("found", 98, share(Call.BAD))
    for requests in (300, 30):
        yield Cell(
            f"5 % more errors, {requests} requests", World(requests=requests), Change(errors=0.05), (found,), True
        )


CELLS = (*_unchanged(), *_slower(), *_failing())
# How much rests on what cannot be known: whether a slow pod is slow in both latencies. No bars.
SENSITIVITY = tuple(
    Cell(
        f"{name}, pods {kind}",
        World(requests=300, pod_spread=spread, pods_alike=alike),
        change,
        harmful=change.itl > 1,
    )
    for kind, alike in (("slow in both latencies or none", 1.0), ("slow in each by itself", 0.0))
    for name, spread, change in (
        ("A/A, pods differ by 10 %, 300 requests", 0.10, Change()),
        ("ITL 20 % worse, 300 requests", 0.03, Change(itl=1.2)),
    )
)

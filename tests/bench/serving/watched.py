"""What it costs to watch: the monitor, the tracer and the tuner on one server, and none of them on another."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from tests.bench.serving.pairs import Pairs, beside
from tests.bench.serving.rows import Row, at_most, told
from tests.bench.serving.servers import ours
from tests.bench.serving.traffic import Measured, ratio
from tests.unit.engine.sinks import sink

STARTS, ROUNDS = 5, 2
SECONDS = 12.0
# The target is far away, and there are fewer clients than may run: the tuner looks, and has nothing to move.
WATCHING = {"TUNER__ENABLED": "true", "TUNER__ITL_P95_SECONDS": "5"}
BARE = {"MONITOR__ENABLED": "false"}
Tell = Callable[[str], None]


def rows(tell: Tell) -> Iterator[Row]:
    """Every request is traced, and its spans go to a collector on this machine."""
    with sink() as collector:
        pairs = beside(
            lambda: ours("watching", TRACING__ENDPOINT=f"{collector.url}/v1/traces", **WATCHING),
            lambda: ours("bare", **BARE),
            tell, starts=STARTS, rounds=ROUNDS, seconds=SECONDS, settle=1.0,
        )  # fmt: skip
        if not collector.bodies:
            raise RuntimeError("no span came, so nothing was traced")
    yield from compared(pairs)


def compared(pairs: Pairs) -> Iterator[Row]:
    """By the work on a core for a token, which others on the machine hardly change, and by what the processes hold."""
    over, under = _work(pairs.over), _work(pairs.under)
    more = [a / b - 1.0 for a, b in zip(over, under, strict=True)]
    each = statistics.median(over) - statistics.median(under)
    shown = ", ".join(f"{100 * value:.1f}" for value in more)
    detail = f"{1e6 * each:.0f} µs of {1e6 * statistics.median(under):.0f} for a token; rounds {shown} %"
    yield at_most(
        "monitor, tracer and tuner: more CPU per token", 100 * statistics.median(more), 3.0, unit="%", detail=detail
    )
    held = [statistics.median(side) / 1e6 for side in zip(*pairs.held, strict=True)]
    detail = f"{held[0]:.0f} MB over {held[1]:.0f} MB, all processes of a server"
    more_held = 100 * (statistics.median(a / b for a, b in pairs.held) - 1.0)
    yield at_most("monitor, tracer and tuner: more memory", more_held, 5.0, unit="%", detail=detail)
    value, detail = ratio(pairs.over, pairs.under, lambda one: one.scenario.tokens_per_second)
    yield told("monitor, tracer and tuner on over off: throughput", value, detail=f"tok/s {detail}")


def _work(measured: Sequence[Measured]) -> list[float]:
    """Seconds on a core for a token, round by round."""
    return [1.0 / one.tokens_per_cpu_second for one in measured]

"""What it costs to watch: the monitor, the tracer and the tuner on one server, and none of them on another."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from tests.bench.serving.pairs import Pairs, beside
from tests.bench.serving.rows import Row, at_most, told
from tests.bench.serving.servers import ours
from tests.bench.serving.turns import TURN, more_work, ratio
from tests.unit.engine.sinks import sink

STARTS, ROUNDS = 3, 8
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
            tell, starts=STARTS, rounds=ROUNDS, **TURN,
        )  # fmt: skip
        if not collector.bodies:
            raise RuntimeError("no span came, so nothing was traced")
    yield from compared(pairs)


def compared(pairs: Pairs) -> Iterator[Row]:
    """By the work on a core for a token, which others on the machine change less than speed.

    All three watch in the API server's process. The engine's is the same program on both sides, and its work differs
    from one stretch to the next by more than what is looked for, so it is told by itself.
    """
    name = "monitor, tracer and tuner"
    more, detail = more_work(pairs.over, pairs.under)
    yield at_most(f"{name}: more CPU per token in the API server, of all", more, 3.0, unit="%", detail=detail)
    value, detail = ratio(pairs.over, pairs.under, lambda one: 1e6 * one.work.engine)
    yield told(f"{name}, on over off: CPU per token of the engine's process", value, detail=f"µs {detail}")
    held = [statistics.median(side) / 1e6 for side in zip(*pairs.held, strict=True)]
    detail = f"{held[0]:.0f} MB over {held[1]:.0f} MB, all processes of a server"
    more_held = 100 * (statistics.median(a / b for a, b in pairs.held) - 1.0)
    yield at_most(f"{name}: more memory", more_held, 5.0, unit="%", detail=detail)
    value, detail = ratio(pairs.over, pairs.under, lambda one: one.scenario.tokens_per_second)
    yield told(f"{name} on over off: throughput", value, detail=f"tok/s {detail}")

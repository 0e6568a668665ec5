"""Two servers beside each other, started anew several times.

Two processes of one program differ by some per cent for as long as they live, by where their memory came to lie. That
is as much as what is looked for here, so one pair of processes decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.bench.serving.processes import memory_bytes
from tests.bench.serving.servers import served
from tests.bench.serving.traffic import run
from tests.bench.serving.turns import Measured, in_turns
from tests.vllm.server import VllmServer

Make = Callable[[], VllmServer]


@dataclass(frozen=True)
class Pairs:
    """The rounds of all starts, those of the one server and of the other; and the bytes that they held after each."""

    over: list[Measured] = field(default_factory=list)
    under: list[Measured] = field(default_factory=list)
    held: list[tuple[float, float]] = field(default_factory=list)


def beside(
    over: Make,
    under: Make,
    tell: Callable[[str], None],
    *,
    starts: int,
    rounds: int,
    before: Callable[[VllmServer], object] | None = None,
    **load: Any,
) -> Pairs:
    """Both run all the time of a start, and one of them has load. Who is started first changes. `before` prepares the
    first of the two before the rounds of a start.
    """
    found = Pairs()
    for start in range(starts):
        ours, theirs = over(), under()
        with ExitStack() as running:
            for server in (ours, theirs) if start % 2 == 0 else (theirs, ours):
                running.enter_context(served(server))
                run(server, seconds=4.0, settle=0.0)
            tell(f"start {start + 1} of {starts}")
            if before is not None:
                before(ours)
            first, second = in_turns(ours, theirs, rounds, tell, **load)
            found.held.append((memory_bytes(ours), memory_bytes(theirs)))
        found.over.extend(first)
        found.under.extend(second)
    return found

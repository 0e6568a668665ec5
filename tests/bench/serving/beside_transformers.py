"""Our server over PyTorch: requests together over one at a time, and beside the server of transformers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from tests.bench.serving.rows import Row, at_least
from tests.bench.serving.servers import pytorch, served, transformers
from tests.bench.serving.traffic import run
from tests.bench.serving.turns import in_turns, ratio

ROUNDS = 3
Tell = Callable[[str], None]


def rows(tell: Tell) -> Iterator[Row]:
    with served(pytorch()) as mine:
        run(mine, seconds=5.0, settle=0.0)
        together, alone = [], []
        for number in range(ROUNDS):
            together.append(run(mine, clients=16, seconds=14.0).tokens_per_second)
            alone.append(run(mine, clients=1, seconds=10.0, settle=1.0).tokens_per_second)
            shown = f"{together[-1]:.1f} and {alone[-1]:.1f}"
            tell(f"PyTorch, 16 clients and one, round {number + 1}: {shown} tok/s")
        value = statistics.median(a / b for a, b in zip(together, alone, strict=True))
        detail = f"{statistics.median(together):.1f} over {statistics.median(alone):.1f}"
        yield at_least("PyTorch engine over one request at a time: throughput", value, 2.5, detail=f"tok/s {detail}")
        with served(transformers()) as theirs:
            load = {"clients": 16, "seconds": 14.0, "exact": False}
            run(theirs, seconds=5.0, settle=0.0, exact=False)
            over, under = in_turns(mine, theirs, ROUNDS, tell, **load)
        value, detail = ratio(over, under, lambda one: one.scenario.tokens_per_second)
        yield at_least("PyTorch engine over transformers serve: throughput", value, 1.0, detail=f"tok/s {detail}")

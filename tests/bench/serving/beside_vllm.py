"""Our server over vLLM beside `vllm serve` with the same flags."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.bench.serving.pairs import beside
from tests.bench.serving.rows import Row, at_least, at_most, told
from tests.bench.serving.servers import ours, plain
from tests.bench.serving.turns import TURN, more_work, ratio, ratio_at

STARTS, ROUNDS = 3, 12
Tell = Callable[[str], None]


def rows(tell: Tell) -> Iterator[Row]:
    tell("our server and vllm serve, 16 clients")
    pairs = beside(ours, plain, tell, starts=STARTS, rounds=ROUNDS, **TURN)
    over, under = pairs.over, pairs.under
    value, detail = ratio(over, under, lambda one: one.scenario.tokens_per_second)
    yield at_least("our server over vllm serve: throughput", value, 0.98, detail=f"tok/s {detail}")
    value, detail = ratio_at(over, under, "ttft", 0.95)
    yield at_most("our server over vllm serve: TTFT p95", value, 1.03, detail=f"ms {detail}")
    value, detail = ratio_at(over, under, "tpot", 0.95)
    yield told("our server over vllm serve: time per token p95", value, detail=f"ms {detail}")
    value, detail = more_work(over, under)
    yield told("our server over vllm serve: more CPU per token beside the engine", value, unit="%", detail=detail)
    value, detail = ratio(over, under, lambda one: 1e6 * one.work.engine)
    yield told("our server over vllm serve: CPU per token of the engine's process", value, detail=f"µs {detail}")

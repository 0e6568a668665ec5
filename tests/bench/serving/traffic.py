"""The load of the benchmark, and measurements in turns."""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from tests.testkit.client import MODEL_NAME
from tests.vllm.server import VllmServer
from trimtab_engine.bench.measure import Plan, scenario
from trimtab_engine.bench.result import Scenario
from trimtab_engine.bench.server import Server
from trimtab_engine.load.client import Target
from trimtab_engine.load.runner import Traffic
from trimtab_engine.load.workload import Lengths, Workload

PROMPT, OUTPUT = "uniform:48-80", "uniform:24-40"
_seeds = itertools.count(1)


def run(
    server: VllmServer,
    *,
    clients: int = 16,
    seconds: float = 12.0,
    settle: float = 3.0,
    rate: float | None = None,
    stream: bool = True,
    chat: bool = False,
    output: str = OUTPUT,
    model: str = MODEL_NAME,
    exact: bool = True,
) -> Scenario:
    """One stretch of load; other prompts each time, so that none is found in a prefix cache.

    `exact` asks for answers of exactly the wanted length, which needs a server that knows `ignore_eos`.
    """
    target = Target(
        url=f"{server.url}/v1", model=model, chat=chat, temperature=0.0, keep_alive=True, timeout=120, ignore_eos=exact
    )
    work = Workload(prompt_tokens=Lengths.parse(PROMPT), output_tokens=Lengths.parse(output), seed=next(_seeds))
    traffic = Traffic(concurrency=clients, rate=rate, max_seconds=seconds, pause_after_failure=0.5)
    plan = Plan(name="load", traffic=traffic, asking=work, stream=stream, settle_seconds=settle)
    return asyncio.run(scenario(Server(server.url), target, plan))


def in_turns(
    first: VllmServer, second: VllmServer, rounds: int, tell: Callable[[str], None], **load: Any
) -> tuple[list[Scenario], list[Scenario]]:
    """The same load on both, in turns; who begins changes from round to round."""
    found: tuple[list[Scenario], list[Scenario]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            one = run((first, second)[which], **load)
            if one.failures():
                raise RuntimeError(f"requests failed: {one.failures()}")
            found[which].append(one)
        tell(f"round {number + 1}: {found[0][-1].tokens_per_second:.1f} and {found[1][-1].tokens_per_second:.1f} tok/s")
    return found


def ratio(over: list[Scenario], under: list[Scenario], of: Callable[[Scenario], float | None]) -> tuple[float, str]:
    """The median of the rounds' ratios, and all of them in words."""
    pairs = [(of(a) or 0.0, of(b) or 0.0) for a, b in zip(over, under, strict=True)]
    ratios = [a / b for a, b in pairs]
    shown = ", ".join(f"{value:.3f}" for value in ratios)
    medians = tuple(statistics.median(side) for side in zip(*pairs, strict=True))
    return statistics.median(ratios), f"{medians[0]:.1f} over {medians[1]:.1f}; rounds {shown}"


def configure(server: VllmServer, limits: Mapping[str, object]) -> None:
    """Changes limits of our server."""
    from tests.bench.serving.servers import token_file

    asyncio.run(Server(server.url, token_file=token_file()).configure(limits))

"""The auto-tuner under load, from a limit far too low: does it find the best one by itself, how fast, at what loss."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench.serving.pairs import beside
from tests.bench.serving.rows import Row, at_least, at_most
from tests.bench.serving.servers import CAPACITY, FLAGS, ours, plain, served, token_file
from tests.bench.serving.traffic import Running, configure, run, switch_tuner
from tests.bench.serving.turns import TURN, ratio
from tests.testkit.client import MODEL_NAME
from trimtab_engine.bench.measure import Plan, scenario
from trimtab_engine.bench.result import Scenario
from trimtab_engine.bench.server import Server
from trimtab_engine.load.client import Target
from trimtab_engine.load.runner import Traffic
from trimtab_engine.load.workload import Lengths, Workload

STARTS, ROUNDS = 3, 10
CLIENTS = 32
LIMITS = (4, 8, 16, CAPACITY)
SECONDS = 70.0
# The tuner as it comes, with one target that leaves it room: what it looks for is throughput then.
TUNER = {"TUNER__ENABLED": "true", "TUNER__ITL_P95_SECONDS": "2"}
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Driven:
    """The load while the tuner worked, when the last limit came, in seconds since the start, and which."""

    load: Scenario
    seconds: float
    limit: int


def rows(tell: Tell) -> Iterator[Row]:
    """The best static configuration is looked for on our own server, with the tuner off. Then `vllm serve` is started
    with it beside a server that the tuner drives first, each with load in turns."""
    with served(ours("static")) as fixed:
        run(fixed, seconds=4.0, settle=0.0)
        best = best_static(fixed, tell)
    flags = FLAGS if best == CAPACITY else (*FLAGS, "--max-num-seqs", str(best))
    driven: list[Driven] = []
    pairs = beside(
        lambda: ours("tuned", **TUNER), lambda: plain("best-static", flags), tell, starts=STARTS, rounds=ROUNDS,
        before=lambda mine: driven.append(drive(mine, tell)), clients=CLIENTS, **TURN,
    )  # fmt: skip
    yield from told_of(driven)
    value, detail = ratio(pairs.over, pairs.under, lambda one: one.scenario.tokens_per_second)
    name = "live limits from a bad start over the best static: throughput"
    yield at_least(name, value, 0.97, detail=f"tok/s {detail}")


def best_static(server: Running, tell: Tell, *, seconds: float = 8.0) -> int:
    """The limit of running requests with the most tokens per second; `server` has limits that change."""
    static = {}
    for limit in LIMITS:
        configure(server, {"max_running_requests": limit})
        static[limit] = run(server, clients=CLIENTS, seconds=seconds, settle=2.0).tokens_per_second
    best = max(static, key=lambda limit: static[limit])
    shown = ", ".join(f"{limit}: {speed:.0f}" for limit, speed in static.items())
    tell(f"static limits and tok/s: {shown}; the best is {best}")
    return best


def drive(server: Running, tell: Tell) -> Driven:
    """Beginning with one request at once, with the tuner on and the load going on; it stays on."""
    switch_tuner(server, "stop")
    configure(server, {"max_running_requests": 1})
    switch_tuner(server, "start")
    return asyncio.run(_drive(server, tell))


async def _drive(server: Running, tell: Tell) -> Driven:
    work = Workload(prompt_tokens=Lengths.parse("uniform:48-80"), output_tokens=Lengths.parse("uniform:24-40"), seed=99)
    target = Target(url=f"{server.url}/v1", model=MODEL_NAME, temperature=0.0, keep_alive=True, timeout=120)
    plan = Plan(name="driven", traffic=Traffic(concurrency=CLIENTS, max_seconds=SECONDS), asking=work)
    control = Server(server.url, token_file=token_file())
    running = asyncio.create_task(scenario(control, target, plan))
    began, seen = time.monotonic(), [(0.0, 1)]
    while not running.done():
        document = json.loads(await asyncio.to_thread(server.get, "/v1/optimization/tuner"))
        limit = document["limits"]["max_running_requests"]
        if limit != seen[-1][1]:
            seen.append((time.monotonic() - began, limit))
            tell(f"{seen[-1][0]:.1f} s: {document['decisions'][-1]['message']}")
        await asyncio.sleep(0.25)
    last = seen[-1][1]
    first = next(at for at, limit in seen if limit == last)
    return Driven(load=await running, seconds=first, limit=last)


def told_of(driven: Sequence[Driven]) -> Iterator[Row]:
    """That nothing failed, and how long it took at most, of all starts."""
    failures = sum((Counter(one.load.failures()) for one in driven), Counter[str]())
    detail = f"of {sum(len(one.load.samples) for one in driven)}; {dict(failures) or 'none'}"
    yield at_most("live limits from a bad start: failed requests", float(failures.total()), 0.0, detail=detail)
    limits = " and ".join(sorted({str(one.limit) for one in driven}))
    seconds = ", ".join(f"{one.seconds:.1f}" for one in driven)
    detail = f"from 1 to {limits} requests at once, by the tuner with its defaults; starts {seconds}"
    slowest = max(one.seconds for one in driven)
    yield at_most("live limits from a bad start: time to the best", slowest, 60.0, unit="s", detail=detail)

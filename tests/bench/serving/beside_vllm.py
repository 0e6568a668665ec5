"""Our server over vLLM beside `vllm serve` with the same flags; live limits; overload."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator

from tests.bench.serving import killed
from tests.bench.serving.rows import Row, at_least, at_most, told
from tests.bench.serving.servers import CAPACITY, FLAGS, ours, plain, served, token_file
from tests.bench.serving.traffic import configure, generated, in_turns, ratio, run
from tests.testkit.client import MODEL_NAME
from tests.vllm.server import VllmServer
from trimtab_engine.bench.measure import Plan, scenario
from trimtab_engine.bench.result import Sample, Scenario
from trimtab_engine.bench.server import Server
from trimtab_engine.load.client import Target
from trimtab_engine.load.runner import Traffic
from trimtab_engine.load.workload import Lengths, Workload

ROUNDS = 5
LIVE_ROUNDS = 3
CLIENTS = 32
STEP_SECONDS = 6.0
Tell = Callable[[str], None]


def rows(tell: Tell) -> Iterator[Row]:
    """Both servers run all the time, and one of them has load; ours goes on alone, until its engine is killed."""
    with served(ours()) as mine:
        with served(plain()) as theirs:
            for server in (theirs, mine):
                run(server, seconds=4.0, settle=0.0)
            yield from _beside(mine, theirs, tell)
            yield from _driven(mine, theirs, tell)
        yield from _overload(mine, tell)
        yield from killed.rows(mine, tell)


def _beside(mine: VllmServer, theirs: VllmServer, tell: Tell) -> Iterator[Row]:
    tell("our server and vllm serve, 16 clients")
    over, under = in_turns(mine, theirs, ROUNDS, tell)
    value, detail = ratio(over, under, lambda one: one.scenario.tokens_per_second)
    yield at_least("our server over vllm serve: throughput", value, 0.98, detail=f"tok/s {detail}")
    value, detail = ratio(over, under, lambda one: one.scenario.percentile("ttft", 0.95))
    yield at_most("our server over vllm serve: TTFT p95", value, 1.03, detail=f"ms {detail}")
    value, detail = ratio(over, under, lambda one: one.scenario.percentile("tpot", 0.95))
    yield told("our server over vllm serve: time per token p95", value, detail=f"ms {detail}")
    value, detail = ratio(over, under, lambda one: one.tokens_per_cpu_second)
    yield told("our server over vllm serve: tokens per CPU second", value, detail=detail)


def _driven(mine: VllmServer, theirs: VllmServer, tell: Tell) -> Iterator[Row]:
    """Beginning with 1 request at once, doubled as long as that brings 3 % more, while the load goes on.

    The best static configuration is looked for on the same server first: the limits 4, 8, 16 and 32. If the capacity is
    the best of them, `vllm serve` beside it has it from its start; else it is started anew with that.
    """
    static = {}
    for limit in (4, 8, 16, CAPACITY):
        configure(mine, {"max_running_requests": limit})
        static[limit] = run(mine, clients=CLIENTS, seconds=8.0, settle=2.0).tokens_per_second
    best = max(static, key=lambda limit: static[limit])
    tell(f"static: {static}, the best is {best}")
    configure(mine, {"max_running_requests": 1})
    driven, seconds, reached = asyncio.run(_drive(mine, tell))
    detail = f"from 1 to {reached} requests at once in {seconds:.0f} s; failures {driven.failures() or 'none'}"
    yield at_most("live limits from a bad start: failed requests", float(sum(driven.failures().values())), 0.0)
    yield at_most("live limits from a bad start: time to the best", seconds, 60.0, unit="s", detail=detail)
    if best == CAPACITY:
        over, under = in_turns(mine, theirs, LIVE_ROUNDS, tell, clients=CLIENTS)
    else:
        theirs.stop()
        flags = (*FLAGS, "--max-num-seqs", str(best))
        with served(plain("best-static", flags)) as server:
            over, under = in_turns(mine, server, LIVE_ROUNDS, tell, clients=CLIENTS)
    value, words = ratio(over, under, lambda one: one.scenario.tokens_per_second)
    yield at_least(
        "live limits from a bad start over the best static: throughput", value, 0.97, detail=f"tok/s {words}"
    )


async def _drive(server: VllmServer, tell: Tell) -> tuple[Scenario, float, int]:
    """Climbs under load; the whole load, the seconds until the best limit was in force, and that limit."""
    control = Server(server.url, token_file=token_file())
    work = Workload(prompt_tokens=Lengths.parse("uniform:48-80"), output_tokens=Lengths.parse("uniform:24-40"), seed=99)
    target = Target(url=f"{server.url}/v1", model=MODEL_NAME, temperature=0.0, keep_alive=True)
    plan = Plan(name="driven", traffic=Traffic(concurrency=CLIENTS, max_seconds=58.0), asking=work)
    running = asyncio.create_task(scenario(control, target, plan))
    began = time.monotonic()
    limit, speed, since = 1, await _speed(server), 0.0
    while limit < CAPACITY:
        await control.configure({"max_running_requests": min(CAPACITY, 2 * limit)})
        at = time.monotonic() - began
        faster = await _speed(server)
        tell(f"limit {min(CAPACITY, 2 * limit)}: {faster:.0f} tok/s, before {speed:.0f}")
        if faster < 1.03 * speed:
            await control.configure({"max_running_requests": limit})
            break
        limit, speed, since = min(CAPACITY, 2 * limit), faster, at
    return await running, since, limit


async def _speed(server: VllmServer) -> float:
    """Tokens per second over some seconds, from the server's own counter."""

    await asyncio.sleep(1.0)
    began, before = time.monotonic(), await asyncio.to_thread(generated, server)
    await asyncio.sleep(STEP_SECONDS)
    return (await asyncio.to_thread(generated, server) - before) / (time.monotonic() - began)


def _overload(server: VllmServer, tell: Tell) -> Iterator[Row]:
    """Capacity is what 16 clients in a closed loop get; goodput counts answers within three times their median TTFT and
    time, in requests per second over the whole stretch. As many run as there were clients, and a quarter may wait."""
    configure(server, {"max_running_requests": 16, "max_queued_requests": 4})
    closed = run(server, clients=16, seconds=14.0)
    capacity = closed.requests_per_second
    ttft, whole = (3.0 * (closed.percentile(kind, 0.5) or 0.0) / 1e3 for kind in ("ttft", "e2e"))
    tell(f"capacity {capacity:.1f} requests/s; SLO: TTFT {ttft * 1e3:.0f} ms, whole answer {whole:.1f} s")

    def good(one: Scenario) -> float:
        kept = [s for s in one.answered if s.ttft is not None and s.ttft <= ttft and s.seconds <= whole]
        return len(kept) / one.seconds

    ratios, refused, spread = [], list[Sample](), []
    for number in range(3):
        at, over = (run(server, rate=times * capacity, seconds=15.0, settle=3.0) for times in (1.0, 3.0))
        ratios.append(good(over) / good(at))
        refused += [s for one in (at, over) for s in one.samples if s.reason == "http_429"]
        others = {why for one in (at, over) for why in one.failures()} - {"http_429"}
        if others:
            raise RuntimeError(f"requests failed otherwise than by refusal: {others}")
        spread.append(f"{good(over):.2f}/{good(at):.2f}")
        tell(f"round {number + 1}: goodput {spread[-1]} requests/s, {len(refused)} refused so far")
    value = statistics.median(ratios)
    yield at_least("overload at 3 times capacity: goodput over that at capacity", value, 0.9, detail=", ".join(spread))
    late = sorted(1e3 * s.seconds for s in refused)
    yield at_most(
        "overload: refused requests answered in, p95",
        late[int(0.95 * (len(late) - 1))],
        50.0,
        unit="ms",
        detail=f"{len(late)} refused, median {statistics.median(late):.1f} ms; seen by a client on the same cores",
    )

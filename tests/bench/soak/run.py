"""Load at 80 % of the capacity, clients that vanish beside it, and looks at what the server holds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import psutil

from tests.bench.serving.processes import family, memory_by_process
from tests.bench.serving.traffic import Running, run
from tests.bench.soak.fit import Look, Recording
from tests.testkit.client import MODEL_NAME
from tests.unit.engine.sinks import Sink
from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.workload import Lengths, Workload

SHARE = 0.8
CLIENTS = 16
# So many of a hundred requests beside the load are given up by their clients in the middle of the answer.
VANISHING = 0.05
PATIENCE = 0.3
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, how long of that is warm-up, and how often is looked, in seconds; the lengths of prompts and answers in
    tokens."""

    seconds: float
    warm_up: float
    every: float = 5.0
    calibration: float = 20.0
    prompt: str = "uniform:48-80"
    output: str = "uniform:24-40"


def soak(server: Running, plan: Plan, *, engine: str, collector: Sink, tell: Tell) -> Recording:
    """`collector` gets the server's spans; what came is counted and thrown away."""
    closed = run(server, clients=CLIENTS, seconds=plan.calibration, chat=True, prompt=plan.prompt, output=plan.output)
    capacity = closed.requests_per_second
    tell(f"capacity {capacity:.2f} requests/s, load {SHARE * capacity:.2f} for {plan.seconds:.0f} s")
    return asyncio.run(_soak(server, plan, capacity, engine, collector, tell))


async def _soak(server: Running, plan: Plan, capacity: float, engine: str, collector: Sink, tell: Tell) -> Recording:
    rate, ledger = SHARE * capacity, Ledger(bucket_seconds=10.0)
    load = _runner(server, plan, rate, ledger)
    leaving = _runner(server, replace(plan, output="400"), VANISHING * rate, Ledger(), patience=PATIENCE)
    began, looks, spans = time.monotonic(), list[Look](), 0
    tasks = [asyncio.create_task(one.run()) for one in (load, leaving)]
    try:
        while not tasks[0].done():
            looks.append(await asyncio.to_thread(look_at, server, time.monotonic() - began, ledger.total.succeeded))
            spans += len(collector.bodies)
            collector.bodies.clear()
            if len(looks) % 60 == 0:
                tell(f"{looks[-1].at:.0f} s: {looks[-1].answered} answers, {looks[-1].total / 1e6:.1f} MB")
            await asyncio.wait({tasks[0]}, timeout=plan.every)
    finally:
        for one in (load, leaving):
            one.set_state("stopped")
        await asyncio.gather(*tasks)
    total = ledger.total
    return Recording(
        engine=engine,
        seconds=plan.seconds,
        warm_up=plan.warm_up,
        capacity=capacity,
        rate=rate,
        sent=total.sent,
        answered=total.succeeded,
        failures=dict(total.failures),
        skipped=total.skipped,
        vanished=leaving.ledger.total.failed,
        spans=spans,
        # What comes after the last arrival is no load of 80 %.
        looks=tuple(look for look in looks if look.at <= plan.seconds),
        minutes=tuple(by_minute(ledger, load.began, plan.seconds)),
    )


def look_at(server: Running, at: float, answered: int) -> Look:
    """What the server's processes hold of their own now; connections that clients keep open are not the server's.

    Raises RuntimeError where there are no processes any more.
    """
    memory, files, threads, port = memory_by_process(server), 0, 0, urlsplit(server.url).port
    for process in family(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            files += process.num_fds() - _from_clients(process, port)
            threads += process.num_threads()
    if not memory:
        raise RuntimeError(f"The server has ended, {at:.0f} s after the load began and {answered} answers.")
    return Look(at=round(at, 2), answered=answered, memory=tuple(memory), files=files, threads=threads)


def _from_clients(process: psutil.Process, port: int | None) -> int:
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr[1] == port for one in process.net_connections("tcp"))


def _runner(server: Running, plan: Plan, rate: float, ledger: Ledger, *, patience: float = 300.0) -> Runner:
    target = Target(
        url=f"{server.url}/v1", model=MODEL_NAME, chat=True, temperature=0.0, keep_alive=True, timeout=patience
    )
    work = Workload(prompt_tokens=Lengths.parse(plan.prompt), output_tokens=Lengths.parse(plan.output), seed=7)
    traffic = Traffic(rate=rate, max_seconds=plan.seconds, max_requests=10_000_000)
    return Runner(target, work, traffic, ledger, log=lambda _: None)


def by_minute(ledger: Ledger, began: float, seconds: float) -> list[dict[str, object]]:
    """The load's figures, a minute each, from the ledger's bucket in which it began: no bucket counts twice."""
    first = began // ledger.bucket_seconds * ledger.bucket_seconds
    found = []
    for number in range(int(seconds // 60)):
        bucket = ledger.window(first + 60 * number, first + 60 * (number + 1))
        found.append({"minute": number, **bucket.as_json()})
    return found

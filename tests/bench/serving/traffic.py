"""The load of the benchmark."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import urllib.request
from collections.abc import Mapping
from typing import Any, Protocol

from trimtab_engine.bench.measure import Plan, scenario
from trimtab_engine.bench.result import Scenario
from trimtab_engine.bench.server import Server
from trimtab_engine.load.client import Target
from trimtab_engine.load.runner import Traffic
from trimtab_engine.load.workload import Lengths, Workload

PROMPT, OUTPUT = "uniform:48-80", "uniform:24-40"
SEEDS = itertools.count(1)


class Running(Protocol):
    """A server that runs, whichever it is."""

    url: str
    model: str

    @property
    def process(self) -> subprocess.Popen[bytes]: ...
    def get(self, path: str, seconds: float = 30) -> str: ...
    def post(self, path: str, body: Mapping[str, object], seconds: float = 120) -> Any: ...


def run(
    server: Running,
    *,
    clients: int = 16,
    seconds: float = 12.0,
    settle: float = 3.0,
    rate: float | None = None,
    stream: bool = True,
    chat: bool = False,
    prompt: str = PROMPT,
    output: str = OUTPUT,
    exact: bool = True,
    seed: int | None = None,
) -> Scenario:
    """One stretch of load; other prompts each time, so that none is found in a prefix cache, unless a `seed` is given.

    `exact` asks for answers of exactly the wanted length, which needs a server that knows `ignore_eos`.
    """
    target = Target(
        url=f"{server.url}/v1",
        model=server.model,
        chat=chat,
        temperature=0.0,
        keep_alive=True,
        timeout=120,
        ignore_eos=exact,
    )
    asking = Workload(
        prompt_tokens=Lengths.parse(prompt),
        output_tokens=Lengths.parse(output),
        seed=next(SEEDS) if seed is None else seed,
    )
    traffic = Traffic(concurrency=clients, rate=rate, max_seconds=seconds, pause_after_failure=0.5)
    plan = Plan(name="load", traffic=traffic, asking=asking, stream=stream, settle_seconds=settle)
    return asyncio.run(scenario(Server(server.url), target, plan))


def configure(server: Running, limits: Mapping[str, object]) -> None:
    """Changes limits of our server."""
    from tests.bench.serving.servers import token_file

    asyncio.run(Server(server.url, token_file=token_file()).configure(limits))


def switch_tuner(server: Running, verb: str) -> None:
    """`start` or `stop`."""
    from tests.bench.serving.servers import TOKEN

    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{server.url}/v1/optimization/{verb}", data=b"", headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()

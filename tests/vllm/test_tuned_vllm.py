"""Real vLLM that tunes itself under load, from a bad start, without a lost request; measured and traced meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.client import MODEL_NAME
from tests.unit.engine.sinks import Sink, sink
from tests.vllm.server import ROOT, VllmServer, trimtab_command
from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.workload import Lengths, Workload

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]

CLIENTS = 24
WANTED = 8


@pytest.fixture(scope="module")
def collector() -> Iterator[Sink]:
    with sink() as kept:
        yield kept


@pytest.fixture(scope="module")
def server(collector: Sink) -> Iterator[VllmServer]:
    """A capacity of 16 requests, of which one may run at first; the target is far above what this machine needs."""
    own = {
        "PYTHONPATH": str(ROOT / "engine_image"),
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME,
        "TRIMTAB_ENGINE_LIMITS__MAX_RUNNING_REQUESTS": "1",
        "TRIMTAB_ENGINE_TUNER__ENABLED": "true",
        "TRIMTAB_ENGINE_TUNER__ITL_P95_SECONDS": "2",
        "TRIMTAB_ENGINE_TUNER__FEWEST_REQUESTS": "4",
        "TRIMTAB_ENGINE_TUNER__INTERVAL_SECONDS": "2",
        "TRIMTAB_ENGINE_TRACING__ENDPOINT": collector.url + "/v1/traces",
    }
    arguments = ("--enforce-eager", "--max-num-seqs", "16", "--max-num-batched-tokens", "1024")
    log = Path(ROOT / "build" / "vllm" / "tuned.log")
    one = VllmServer(*arguments, log=log, env=own, start=trimtab_command)
    one.start()
    try:
        one.wait_until_ready()
        yield one
    finally:
        one.stop()


def told(server: VllmServer, name: str) -> Any:
    return json.loads(server.get(f"/v1/optimization/{name}"))


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not await asyncio.to_thread(what):  # noqa: ASYNC110 - the server does not tell
            await asyncio.sleep(0.5)


def metric(server: VllmServer, series: str) -> float:
    return sum(float(line.split()[-1]) for line in server.get("/metrics").splitlines() if line.startswith(series))


async def test_it_finds_more_throughput_by_itself_and_every_request_is_answered_measured_and_traced(
    server: VllmServer, collector: Sink
) -> None:
    ledger = Ledger()
    target = Target(url=server.url + "/v1", model=MODEL_NAME, timeout=300)
    workload = Workload(prompt_tokens=Lengths.parse("32"), output_tokens=Lengths.parse("32"))
    runner = Runner(target, workload, Traffic(concurrency=CLIENTS, max_seconds=600), ledger)
    running = asyncio.create_task(runner.run())
    try:
        await until(lambda: told(server, "tuner")["limits"]["max_running_requests"] >= WANTED)
    finally:
        runner.set_state("stopped")
        await running
    assert ledger.total.failed == 0
    assert ledger.total.sent == ledger.total.succeeded > CLIENTS

    tuner = told(server, "tuner")
    raised = [entry for entry in tuner["decisions"] if entry["action"] == "raise"]
    assert [(entry["from"], entry["to"]) for entry in raised[:2]] == [(1, 2), (2, 4)]
    assert {entry["reason"] for entry in raised} == {"requests_wait"}
    assert tuner["effect"] > 0.2

    ends = f'trimtab_engine_requests_total{{model="{MODEL_NAME}",outcome="succeeded"}}'
    assert metric(server, ends) >= ledger.total.succeeded
    first = metric(server, "trimtab_engine_time_to_first_token_seconds_count")
    assert first == metric(server, "vllm:time_to_first_token_seconds_count")
    assert metric(server, "vllm:generation_tokens_total") == metric(
        server, f'trimtab_engine_tokens_total{{kind="output",model="{MODEL_NAME}"}}'
    )

    await until(lambda: "decode" in collector.spans())
    spans = collector.spans()
    assert {"queue", "prefill", "decode"} <= set(spans)
    queue, prefill = spans["queue"], spans["prefill"]
    assert queue.end_time_unix_nano > queue.start_time_unix_nano
    assert prefill.end_time_unix_nano > prefill.start_time_unix_nano

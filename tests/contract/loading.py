"""The same load on real vLLM and on the emulator, and what clients and engine counted of it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Protocol

from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.workload import Lengths, Workload

# 32 blocks of 128 tokens: enough for 16 short sequences, too few for 16 long ones.
COMMON = ("--enforce-eager", "--kv-cache-memory-bytes", "48M")
NARROW = (*COMMON, "--max-num-seqs", "1")
WIDE = (*COMMON, "--max-num-seqs", "16")
SHORT = Workload(prompt_tokens=Lengths.parse("64"), output_tokens=Lengths.parse("32"), seed=1)
LONG = Workload(prompt_tokens=Lengths.parse("256"), output_tokens=Lengths.parse("140"), seed=2)

LABELS = 'engine="0",model_name="m75"'
SUCCEEDED = 'vllm:request_success_total{engine="0",finished_reason="length",model_name="m75"}'
GENERATED = f"vllm:generation_tokens_total{{{LABELS}}}"
PROMPTS = f"vllm:prompt_tokens_total{{{LABELS}}}"
PREEMPTED = f"vllm:num_preemptions_total{{{LABELS}}}"
PREFIX_HITS = f"vllm:prefix_cache_hits_total{{{LABELS}}}"
FIRST_TOKENS = f"vllm:time_to_first_token_seconds_count{{{LABELS}}}"
LATENCIES = f"vllm:e2e_request_latency_seconds_count{{{LABELS}}}"
GAPS = f"vllm:inter_token_latency_seconds_count{{{LABELS}}}"
SIZES = f"vllm:request_generation_tokens_sum{{{LABELS}}}"
STEPS = f"vllm:iteration_tokens_total_count{{{LABELS}}}"
COUNTERS = (
    SUCCEEDED,
    GENERATED,
    PROMPTS,
    PREEMPTED,
    PREFIX_HITS,
    FIRST_TOKENS,
    LATENCIES,
    GAPS,
    SIZES,
    STEPS,
)
RUNNING = f"vllm:num_requests_running{{{LABELS}}}"
WAITING = f"vllm:num_requests_waiting{{{LABELS}}}"


class Engine(Protocol):
    """What both servers can do."""

    url: str

    def get(self, path: str, seconds: float = 30) -> str: ...
    def post(self, path: str, body: dict[str, object], seconds: float = 120) -> Any: ...
    def post_raw(self, path: str, body: dict[str, object], seconds: float = 120) -> str: ...


@dataclass(frozen=True)
class Loaded:
    """What a load did, as the clients and as the engine counted it (differences)."""

    tokens_per_second: float
    succeeded: int
    output_tokens: int
    prompt_tokens: int
    engine: dict[str, float]
    most_waiting: float
    most_running: float

    @property
    def tokens_per_step(self) -> float:
        """Output tokens per engine step: how many sequences ran together; no clock is in it."""
        return self.engine[GENERATED] / self.engine[STEPS]


def value(page: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", page, flags=re.MULTILINE)
    assert found is not None, series
    return float(found.group(1))


def load(engine: Engine, workload: Workload, *, requests: int, clients: int) -> Loaded:
    """`requests` from a closed loop of `clients`; with as many clients as requests, none waits for a client."""
    return asyncio.run(_load(engine, workload, requests, clients))


async def _load(engine: Engine, workload: Workload, requests: int, clients: int) -> Loaded:
    target = Target(url=f"{engine.url}/v1", model="m75", timeout=240.0)
    warm_up = Traffic(concurrency=2, max_requests=2, max_seconds=240.0)
    await Runner(target, workload, warm_up, Ledger()).run()
    before = await asyncio.to_thread(engine.get, "/metrics")
    traffic = Traffic(concurrency=clients, max_requests=requests, max_seconds=240.0)
    runner = Runner(target, workload, traffic, Ledger())
    running = asyncio.create_task(runner.run())
    waiting, active = [0.0], [0.0]
    while not running.done():
        page = await asyncio.to_thread(engine.get, "/metrics")
        waiting.append(value(page, WAITING))
        active.append(value(page, RUNNING))
        await asyncio.sleep(0.25)
    await running
    seconds = runner.clock() - runner.began
    after = await asyncio.to_thread(engine.get, "/metrics")
    total = runner.ledger.total
    assert (total.succeeded, total.failed) == (requests, 0)
    return Loaded(
        tokens_per_second=total.output_tokens / seconds,
        succeeded=total.succeeded,
        output_tokens=total.output_tokens,
        prompt_tokens=total.prompt_tokens,
        engine={series: value(after, series) - value(before, series) for series in COUNTERS},
        most_waiting=max(waiting),
        most_running=max(active),
    )

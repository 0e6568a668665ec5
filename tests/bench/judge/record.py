"""`python -m tests.bench.judge.record [KIND…]`: real vLLM beside real vLLM, recorded for the judge.

Three stable servers and one canary with a small random model, each under traffic of its own, scraped every two seconds;
an interval is six seconds long, so that 25 intervals take 150 seconds. The stable servers stay for all kinds;
each canary starts anew and serves for a while before it is recorded. The files go to tests/unit/judge/recordings, in
the format of `trimtab.judge.recording`; its README says what each one holds.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from tests.testkit.client import MODEL_NAME
from tests.vllm.server import ROOT, VllmServer
from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.workload import Lengths, Workload

FOLDER: Final = ROOT / "tests/unit/judge/recordings"
SCRAPE_SECONDS, SECONDS, BEFORE_SECONDS = 2.0, 150.0, 10.0
STABLE: Final = ("s-0", "s-1", "s-2")
CANARY: Final = "c-0"
_HISTOGRAMS: Final = {
    "vllm:time_to_first_token_seconds": "ttft_seconds",
    "vllm:inter_token_latency_seconds": "itl_seconds",
    "vllm:e2e_request_latency_seconds": "e2e_seconds",
    "vllm:request_queue_time_seconds": "queue_seconds",
}
_VALUES: Final = {
    "vllm:request_success_total": "requests_total",
    "vllm:num_preemptions_total": "preemptions_total",
    "vllm:generation_tokens_total": "generation_tokens_total",
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
}
_BASE: Final = ("--enforce-eager", "--max-num-seqs", "16", "--max-num-batched-tokens", "1024")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`canary` are flags that only the canary has; `rate` is requests per second of one pod."""

    canary: tuple[str, ...] = ()
    rate: float
    burstiness: float = 1.0
    prompt: str = "uniform:32-96"
    output: str = "uniform:16-48"
    prefixes: int = 0
    prefix_tokens: int = 0


KINDS: Final = {
    "aa-light": Kind(rate=1.0),
    "aa-steady": Kind(rate=4.0),
    "aa-bursts": Kind(rate=4.0, burstiness=3.0),
    "ab-one-sequence": Kind(rate=4.0, canary=("--max-num-seqs", "1")),
    "ab-no-prefix-cache": Kind(
        rate=2.0, canary=("--no-enable-prefix-caching",), prefixes=2, prefix_tokens=1536, output="uniform:8-24"
    ),
    "ab-small-steps": Kind(
        rate=2.0, canary=("--max-num-batched-tokens", "32"), prompt="uniform:512-768", output="uniform:8-24"
    ),
}


def samples(at: float, role: str, pod: str, page: str) -> Iterable[dict[str, Any]]:
    """What one /metrics page says, as lines of a recording."""
    head = {"t": round(at, 2), "role": role, "pod": pod}
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        if family.name in _HISTOGRAMS:
            yield {**head, "metric": _HISTOGRAMS[family.name], **_histogram(family.samples)}
            continue
        for sample in family.samples:
            if sample.name in _VALUES:
                name = _VALUES[sample.name]
                values[name] = values.get(name, 0.0) + sample.value
    # vLLM counts no failed requests, and the pod's restarts are Kubernetes' to count: none here.
    for name, value in {**values, "errors_total": 0.0, "restarts_total": 0.0}.items():
        yield {**head, "metric": name, "value": value}


def _histogram(series: Iterable[Any]) -> Mapping[str, Any]:
    found: dict[str, Any] = {"buckets": {}}
    for sample in series:
        if sample.name.endswith("_bucket"):
            found["buckets"][sample.labels["le"]] = sample.value
        elif sample.name.endswith(("_sum", "_count")):
            found[sample.name.rpartition("_")[2]] = sample.value
    return found


async def record(kind: Kind, servers: Mapping[str, VllmServer]) -> list[dict[str, Any]]:
    """All lines of one recording; `servers` by the names of their pods."""
    runners = [_runner(kind, server, seed) for seed, server in enumerate(servers.values())]
    running = [asyncio.create_task(runner.run()) for runner in runners]
    await asyncio.sleep(BEFORE_SECONDS)
    lines: list[dict[str, Any]] = []
    began = time.monotonic()
    for number in range(int(SECONDS / SCRAPE_SECONDS) + 1):
        await asyncio.sleep(max(0.0, began + number * SCRAPE_SECONDS - time.monotonic()))
        for pod, server in servers.items():
            page = await asyncio.to_thread(server.get, "/metrics")
            role = "canary" if pod == CANARY else "stable"
            lines += samples(time.monotonic() - began, role, pod, page)
    for runner in runners:
        runner.set_state("stopped")
    await asyncio.gather(*running)
    return lines


def _runner(kind: Kind, server: VllmServer, seed: int) -> Runner:
    workload = Workload(
        prompt_tokens=Lengths.parse(kind.prompt),
        output_tokens=Lengths.parse(kind.output),
        shared_prefixes=kind.prefixes,
        shared_prefix_tokens=kind.prefix_tokens,
        seed=seed,
    )
    traffic = Traffic(rate=kind.rate, burstiness=kind.burstiness, max_seconds=2 * (BEFORE_SECONDS + SECONDS))
    return Runner(Target(url=server.url + "/v1", model=MODEL_NAME, timeout=300), workload, traffic, Ledger())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.judge.record", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=[], metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    logs = ROOT / "build/judge-recordings"
    with ExitStack() as stack:
        stable = {pod: stack.enter_context(_server(pod, (), logs)) for pod in STABLE}
        for name in options.kinds or KINDS:
            with _server(CANARY, KINDS[name].canary, logs / name) as canary:
                lines = asyncio.run(record(KINDS[name], {**stable, CANARY: canary}))
            text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
            (options.out / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
            print(f"{name}: {len(lines)} lines", flush=True)
    return 0


def _server(pod: str, flags: tuple[str, ...], logs: Path) -> VllmServer:
    return VllmServer(*_BASE, *flags, log=logs / f"{pod}.log", size="tiny")


if __name__ == "__main__":
    raise SystemExit(main())

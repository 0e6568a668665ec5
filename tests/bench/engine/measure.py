"""Serves the cases of a suite with real vLLM and measures them: one core for vLLM, the other one for the load."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.engine.cases import Case, Load, Served, Suite
from tests.models.make_llama import cache_root, write
from tests.testkit.client import MODEL_NAME
from tests.vllm import venv
from tests.vllm.server import ROOT, VllmServer, environment
from trimtab.catalogue.gpus import Processor
from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.workload import Lengths, Workload

_SETTLING = 4.0  # seconds of load before anything counts
_SECONDS = 11.0
_REPEATS = 2
_BUCKET = 0.25
_PRIORITY = -15


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement: output tokens per second; milliseconds, means but where a percentile is named."""

    case: str
    throughput: float
    tpot: float
    ttft: float
    itl_p95: float
    answered: int
    load_average: float  # of the machine, in the last minute


def cores() -> tuple[int, int]:
    """Of vLLM and of the load; the same where there is one only."""
    mine = sorted(os.sched_getaffinity(0))
    return mine[-1], mine[0]


def prefer(pid: int, core: int | None = None) -> None:
    """Lets all threads of a process go before others where that is allowed, and holds them to one core if asked."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            if core is not None:
                os.sched_setaffinity(int(thread.name), {core})
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), _PRIORITY)
    # Where the kernel groups processes by session, priorities count inside of a session, and the group has its own.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(_PRIORITY), encoding="ascii")


def processor() -> Processor:
    """This machine's core as the engine's matrix kernel finds it."""
    core, _ = cores()
    program = Path(__file__).with_name("probe.py")
    running = subprocess.Popen(
        [str(venv.python()), str(program)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    prefer(running.pid, core)
    out, _ = running.communicate(timeout=300)
    if running.returncode:
        raise RuntimeError(f"the probe ended with {running.returncode}")
    found = json.loads(out.splitlines()[-1])
    return Processor(
        cores=1, memory_bytes=4 << 30, bandwidth=found["bandwidth"], bf16_flops=found["bf16_flops"]
    )  # fmt: skip


def measure(suite: Suite, lock: Path | None, tell: Callable[[str], None]) -> Iterator[Measured]:
    """Every case twice in turn with the others of its server, `again` once more at the end; yields as they come."""
    folder = model(suite)
    groups: dict[Served, list[Case]] = {}
    for case in suite.cases:
        groups.setdefault(case.served, []).append(case)
    rounds = [*groups.items(), *_again(suite)]
    prefer(os.getpid())
    for served, cases in rounds:
        with _held(lock), _serving(folder, served) as server:
            tell(f"{served} after {server.start_seconds:.0f} s")
            for _ in range(_REPEATS):
                for case in cases:
                    found = _one(server.url, case)
                    tell(json.dumps(asdict(found)))
                    yield found


def _again(suite: Suite) -> Iterator[tuple[Served, list[Case]]]:
    cases = [suite.case(name) for name in suite.again]
    if cases:
        yield cases[0].served, cases


def model(suite: Suite) -> Path:
    """The suite's model, made on the first call."""
    folder = cache_root() / "models" / f"bench-{suite.model}-{suite.shape.hidden}-{suite.shape.layers}"
    if not (folder / "model.safetensors").is_file():
        write(suite.shape, folder)
    return folder


@contextlib.contextmanager
def _held(lock: Path | None) -> Iterator[None]:
    """Where several share a machine they agree on a file that one of them locks while it measures."""
    if lock is None:
        yield
        return
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _serving(folder: Path, served: Served) -> Iterator[VllmServer]:
    """vLLM starts on all cores and is then held to one."""
    log = ROOT / "build" / "bench" / "engine.log"
    core, _ = cores()
    server = VllmServer(*served.arguments(), log=log, model=folder)
    server.start()
    try:
        prefer(server.process.pid)
        server.wait_until_ready()
        for pid in _family(server.process.pid):
            prefer(pid, core)
        yield server
    finally:
        server.stop()


def _family(pid: int) -> list[int]:
    """A process and all that it has started, by session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(int(entry.name)) == pid:
                    found.append(int(entry.name))
    return found


def _one(url: str, case: Case) -> Measured:
    return asyncio.run(_load(url, case))


async def _load(url: str, case: Case) -> Measured:
    load, ledger = case.load, Ledger(bucket_seconds=_BUCKET)
    target = Target(url=f"{url}/v1", model=MODEL_NAME, temperature=0.0, keep_alive=True)
    traffic = Traffic(concurrency=load.clients, max_seconds=_SETTLING + _SECONDS, ramp_seconds=_SETTLING / 2)
    # Another seed each time: text that was served before would be found in the prefix cache.
    runner = Runner(target, _workload(load, seed=time.time_ns() & 0xFFFFFFFF), traffic, ledger)
    began = time.time()
    _, core = cores()
    os.sched_setaffinity(0, {core})
    running = asyncio.create_task(runner.run())
    await asyncio.sleep(_SETTLING + _SECONDS)
    since = math.ceil((began + _SETTLING) / _BUCKET) * _BUCKET
    until = since + math.floor((_SECONDS - 2 * _BUCKET) / _BUCKET) * _BUCKET
    counted = ledger.window(since, until)
    await running
    if ledger.total.failed or not counted.succeeded:
        raise RuntimeError(f"{case.name}: {ledger.total.failed} requests failed, {counted.succeeded} were answered")
    ttft, itl, e2e = (counted.latency[kind] for kind in ("ttft", "itl", "e2e"))
    mean = {kind: 1e3 * found.total / found.count for kind, found in (("ttft", ttft), ("e2e", e2e))}
    return Measured(
        case=case.name,
        throughput=counted.output_tokens / (until - since),
        tpot=(mean["e2e"] - mean["ttft"]) / (load.output - 1.0),
        ttft=mean["ttft"],
        itl_p95=1e3 * (itl.percentile(0.95) or 0.0),
        answered=counted.succeeded,
        load_average=os.getloadavg()[0],
    )


def _workload(load: Load, *, seed: int) -> Workload:
    def around(mean: int) -> Lengths:
        return Lengths.parse(f"uniform:{round(0.75 * mean)}-{round(1.25 * mean)}")

    return Workload(
        prompt_tokens=around(load.prompt),
        output_tokens=around(load.output),
        shared_prefixes=load.prefixes,
        shared_prefix_tokens=load.shared,
        seed=seed,
    )


def by_case(found: Sequence[Measured]) -> dict[str, list[Measured]]:
    """All measurements of each case, in the order of the first."""
    groups: dict[str, list[Measured]] = {}
    for one in found:
        groups.setdefault(one.case, []).append(one)
    return groups


def median(found: Sequence[Measured], metric: str) -> float:
    return statistics.median(float(getattr(one, metric)) for one in found)

"""Our server over a model of seven billion weights on one GPU: the figures of T13. Without a GPU the rows stay open.

The engine is vLLM, or else PyTorch, in the Python that the variable TRIMTAB_GPU_PYTHON names, or else in this one. The
model has the layers of Mistral-7B (its config.json), random weights and the tests' vocabulary of bytes.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.serving.rows import Row, at_least, at_most, missing
from tests.bench.serving.servers import LOGS, environment, served
from tests.bench.serving.traffic import Running, run
from tests.models.make_llama import FORMAT, Shape, kept, write
from tests.vllm.server import ROOT, VllmServer, serve_command
from trimtab_engine.config.gpus import GpusConfig
from trimtab_engine.server.gpu_watch import GpuWatch

SEVEN_BILLION = Shape(hidden=4096, intermediate=14_336, layers=32, heads=32, kv_heads=8)
# 7 GB of weights and 6 GB of KV cache in 8 bits leave three of the 16 GB for the rest.
VLLM = ("--quantization", "fp8", "--kv-cache-dtype", "fp8", "--kv-cache-memory-bytes", "6G")
VLLM_STEPS = ("--max-num-seqs", "512", "--max-num-batched-tokens", "4096", "--max-model-len", "2048")
# PyTorch serves 16 bits: 14 GB of weights and 1 GB of KV cache.
PYTORCH = {"RUNNING_REQUESTS": "64", "TOKENS_PER_STEP": "1024", "KV_CACHE_TOKENS": "8192"}
Tell = Callable[[str], None]
Make = Callable[..., Row]


@dataclass(frozen=True, kw_only=True)
class Load:
    """Arrivals per second, for so many seconds of which the first do not count; lengths in tokens."""

    rate: float = 120.0
    seconds: float = 60.0
    settle: float = 15.0
    prompt: str = "uniform:96-160"
    output: str = "uniform:24-40"


@dataclass(frozen=True, kw_only=True)
class Found:
    """TTFT in milliseconds at p95, answers per second, bytes and utilization (0 to 1) of the GPU, failed of all."""

    ttft: float
    answers: float
    memory: float
    utilization: float
    failed: float


# What T13 wants, each figure with its bar.
BARS: Mapping[str, tuple[Make, float, str, Callable[[Found], float]]] = {
    "TTFT p95": (at_most, 500.0, "ms", lambda found: found.ttft),
    "requests per second": (at_least, 100.0, "", lambda found: found.answers),
    "memory of the GPU, most": (at_most, 16.0, "GB", lambda found: found.memory / 1e9),
    "utilization of the GPU, mean": (at_least, 80.0, "%", lambda found: 100 * found.utilization),
    "failed requests": (at_most, 1.0, "%", lambda found: 100 * found.failed),
}


def rows(tell: Tell, given: Mapping[str, str] = os.environ) -> Iterator[Row]:
    """Five rows, open ones where NVML knows no GPU."""
    watch = GpuWatch(GpusConfig(interval_seconds=1.0), {**given, "PYTHONPATH": _path(given)})
    watch.start()
    try:
        if not watch.gpus():
            yield from unmeasured(watch.absent or "CUDA_VISIBLE_DEVICES names no GPU of this machine")
            return
        with served(seven_billion(given)) as server:
            yield from judged(measured(server, watch, Load(), tell), watch.gpus()[0].reading.name)
    finally:
        watch.close()


def unmeasured(why: str) -> Iterator[Row]:
    for name, (make, bar, unit, _) in BARS.items():
        yield missing(make(_name(name), 0.0, bar, unit=unit), f"no GPU here: {why}")


def judged(found: Found, gpu: str) -> Iterator[Row]:
    for name, (make, bar, unit, value) in BARS.items():
        yield make(_name(name), value(found), bar, unit=unit, detail=gpu)


def _name(figure: str) -> str:
    return f"7B model on one GPU: {figure}"


def seven_billion(given: Mapping[str, str]) -> VllmServer:
    """Our server on one GPU, not started yet. Its model is written first: 14 GB, some minutes, kept in the cache."""
    model = kept(f"b7-{FORMAT}", partial(write, SEVEN_BILLION))
    fields = {f"ENGINES__PYTORCH__{name}": value for name, value in PYTORCH.items()}
    own = {
        **environment({"ENGINES__PREFERENCE": "[vllm, pytorch]", **fields}),
        "PYTHONPATH": _path(given),
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
    }
    start = partial(serve_command, Path(given.get("TRIMTAB_GPU_PYTHON") or sys.executable))
    return VllmServer(*VLLM, *VLLM_STEPS, log=LOGS / "gpu.log", model=model, env=own, start=start)


def _path(given: Mapping[str, str]) -> str:
    """Ours first, and what the caller's Python needs."""
    return os.pathsep.join(part for part in (str(ROOT / "engine_image"), given.get("PYTHONPATH", "")) if part)


def measured(server: Running, watch: GpuWatch, load: Load, tell: Tell) -> Found:
    """One stretch of load, and what the first GPU does meanwhile. Raises RuntimeError where no answer came."""
    with _looked_at(watch, load.settle) as seen:
        one = run(
            server, rate=load.rate, seconds=load.seconds, settle=load.settle, prompt=load.prompt, output=load.output
        )
    ttft = one.percentile("ttft", 0.95)
    if ttft is None or not seen:
        raise RuntimeError(f"no answer, or no look at the GPU: {one.failures()}, {len(seen)} looks, {watch.absent}")
    sent = len(one.samples) + one.skipped
    found = Found(
        ttft=ttft,
        answers=one.requests_per_second,
        memory=max(memory for memory, _ in seen),
        utilization=statistics.fmean(share for _, share in seen),
        failed=1.0 - len(one.answered) / sent,
    )
    tell(f"{load.rate:g} requests/s for {load.seconds:g} s: {one.summary()}; {found}")
    return found


@contextmanager
def _looked_at(watch: GpuWatch, settle: float) -> Iterator[list[tuple[float, float]]]:
    """Memory in bytes and utilization of the first GPU, as often as there is something new after `settle` seconds."""
    seen: list[tuple[float, float]] = []
    ended = threading.Event()

    def look() -> None:
        ended.wait(settle)
        while not ended.is_set():
            looks = watch.looks
            first = [gpu.reading for gpu in watch.gpus()[:1]]
            seen.extend((float(gpu.memory_used_bytes or 0), float(gpu.utilization or 0.0)) for gpu in first)
            watch.wait_for(looks + 1, watch.fresh_seconds)

    thread = threading.Thread(target=look, name="looks")
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()

"""How long predictions take on one core, and how much memory they hold: each figure from a process of its own."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from statistics import median
from time import perf_counter

from tests.bench.planner.report import Result, results
from trimtab.catalogue.gpus import find_device
from trimtab.catalogue.models import find_model
from trimtab.plan.point import Layout, ServingPoint, Traffic

_REPEATS = 5
_MEMORY = """
import resource, sys
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20
bare = resident()
from tests.bench.planner.speed import configurations
from trimtab.plan.performance import forecast
points, traffic = configurations()
forecast(points, traffic)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(resident() - bare, peak - bare)
"""
_IMPORT = """
import tests.bench
from time import perf_counter as t
s = t(); import trimtab.plan.performance; print(1e3 * (t() - s))
"""


def configurations() -> tuple[list[ServingPoint], list[Traffic]]:
    """10,000 configurations of one model and GPU type: layouts, formats, limits and cache formats mixed."""
    model, device = find_model("meta-llama/Llama-3.1-70B"), find_device("H100")
    assert model is not None
    layouts = [Layout(tensor=t, pipeline=p) for t, p in ((1, 1), (2, 1), (4, 1), (8, 1), (2, 2))]
    grid = product(
        layouts, ("bf16", "fp8", "int8_wo", "int4_wo"), ("bf16", "fp8"), range(8, 1008, 40), range(1024, 11024, 1000)
    )
    points = [
        ServingPoint(
            model=model, device=device, engine="vllm", layout=layout, weights=weights, kv_cache=cache,
            max_num_seqs=sequences, max_num_batched_tokens=tokens,
        )
        for layout, weights, cache, sequences, tokens in grid
    ]  # fmt: skip
    return points, [Traffic(prompt=1024, output=256, concurrency=128)] * len(points)


def speed() -> list[Result]:
    from trimtab.plan.performance import forecast

    points, traffic = configurations()
    forecast(points[:1], traffic[:1])
    one = _milliseconds(lambda: forecast(points[:1], traffic[:1]))
    many = _milliseconds(lambda: forecast(points, traffic))
    kept, peak = (float(word) for word in _fresh(_MEMORY).split())
    return results(
        ("one point", one, "ms", 5.0),
        (f"{len(points)} configurations", many, "ms", 200.0),
        ("first call, curves and tables read", float(_fresh(_FIRST)), "ms", None),
        ("import of the performance model", float(_fresh(_IMPORT)), "ms", None),
        ("memory over the bare interpreter", kept, "MiB", 80.0),
        ("memory over the bare interpreter, peak", peak, "MiB", None),
    )


_FIRST = """
from time import perf_counter as t
from tests.bench.planner.speed import configurations
from trimtab.plan.performance import forecast
points, traffic = configurations()
s = t(); forecast(points, traffic); print(1e3 * (t() - s))
"""


def _milliseconds(call: object) -> float:
    times = []
    for _ in range(_REPEATS):
        start = perf_counter()
        call()  # type: ignore[operator]
        times.append(1e3 * (perf_counter() - start))
    return median(times)


def _fresh(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

"""How long predictions take on one core, and how much memory they hold: each figure from a process of its own."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from statistics import median
from time import perf_counter

from tests.bench.planner.report import Result, results
from tests.unit.plan.gpu_cases import one_of_four, overloaded
from trimtab.catalogue.gpus import find_device
from trimtab.catalogue.models import find_model
from trimtab.plan import empty, propose
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
        *_full_plans(),
        ("import of the performance model", float(_fresh(_IMPORT)), "ms", None),
        ("memory over the bare interpreter", kept, "MiB", 80.0),
        ("memory over the bare interpreter, peak", peak, "MiB", None),
    )


def _full_plans() -> list[tuple[str, float, str, float | None]]:
    """From a request to a proposal: what a cycle of the operator computes when something is to be improved."""
    state = empty()
    for number in range(300):
        seen = {"model": "m", "device": "H100-SXM", "engine": "vllm", "weights": "bf16", "gpus": 0.0}
        sizes = {"load": number / 30, "prompt": 10.0, "output": 8.0, "tpot": 0.1, "ttft": 0.1}
        state["observations"].append(seen | sizes)
    requests = {
        "one GPU": overloaded(),
        "layouts of four GPUs": one_of_four(),
        "300 observations learned": one_of_four(calibration=state),
        "nothing worth it, 3,900 configurations": one_of_four(calibration=state, min_improvement=99.0),
    }
    return [
        (f"a full plan, {name}", _milliseconds(lambda request=request: propose(request)), "ms", 200.0)
        for name, request in requests.items()
    ]


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

"""What the planner says of the cases: before anything was seen of the engine, and after some were observed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.bench.engine.cases import MIB, Case, Load, Suite
from trimtab.catalogue.gpus import Device, Processor
from trimtab.catalogue.models import read_config
from trimtab.catalogue.models.shape import ModelShape
from trimtab.plan.outlook import Outlook
from trimtab.plan.point import ServingPoint, Traffic
from trimtab.plan.search import Candidates, Estimate, Observation
from trimtab.plan.search.residuals import informed

# As requirements-engine-cpu.lock has it, and its block size on CPUs.
_VERSION, _BLOCK = "0.32.0", 128
# Of even draws from 0.75 to 1.25 of the mean.
_VARIATION = 0.5 / 12.0**0.5


def questions(suite: Suite, folder: Path, processor: Processor) -> tuple[list[ServingPoint], list[Traffic]]:
    """The suite's cases as the planner takes them."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = read_config(config, name=suite.model).shape
    device = Device(cpu=True, processor=processor)
    return [_point(case, shape, device) for case in suite.cases], [_traffic(case.load) for case in suite.cases]


def _point(case: Case, shape: ModelShape, device: Device) -> ServingPoint:
    served = case.served
    return ServingPoint(
        model=shape,
        device=device,
        engine="vllm",
        version=_VERSION,
        kv_cache=served.kv_cache,
        max_num_seqs=served.seqs,
        max_num_batched_tokens=served.step,
        kv_cache_bytes=served.space * MIB,
        kv_block_tokens=_BLOCK,
        prefix_caching=served.prefix,
        cuda_graphs=False,
    )


def _traffic(load: Load) -> Traffic:
    return Traffic(
        prompt=load.whole,
        output=load.output,
        concurrency=load.clients,
        # Whole blocks are found again.
        prefix_share=load.shared // _BLOCK * _BLOCK / load.whole,
        prompt_variation=_VARIATION * load.prompt / load.whole,
        output_variation=_VARIATION,
    )


def candidates(points: Sequence[ServingPoint], traffic: Sequence[Traffic]) -> Candidates:
    """Throughput (tokens/s), TTFT and the 95th percentile of ITL (ms) of all cases, with the model's own widths.

    The percentile errs like the mean, as the search takes it.
    """
    found = Outlook.of(points, traffic, [1] * len(points)).forecast
    bare = Outlook.of(points, traffic, [1] * len(points)).candidates(_features(points, traffic))
    return Candidates(
        bare.features,
        {
            "throughput": bare.metrics["throughput"],
            "ttft": Estimate(np.log(found.ttft.mean), bare.metrics["ttft.mean"].sd),
            "itl_p95": Estimate(np.log(found.itl.p95), bare.metrics["itl.mean"].sd),
        },
    )


def _features(points: Sequence[ServingPoint], traffic: Sequence[Traffic]) -> np.ndarray:
    """Doublings of sizes, and choices as in `Space.features`: knobs and loads."""
    other = 1.0 / math.sqrt(2.0)
    return np.array(
        [
            [
                math.log2(p.max_num_seqs or 1),
                math.log2(p.max_num_batched_tokens or 1),
                math.log2(p.kv_cache_bytes or 1),
                other * p.prefix_caching,
                other * (p.kv_cache == "fp8"),
                math.log2(t.prompt),
                math.log2(t.output),
                math.log2(t.concurrency or 1),
            ]
            for p, t in zip(points, traffic, strict=True)
        ]
    )


def learned(found: Candidates, seen: Mapping[int, Mapping[str, float]]) -> dict[str, np.ndarray]:
    """The estimates after some cases were observed, as the search learns from canaries."""
    after = informed(found, [Observation(row, measured) for row, measured in seen.items()])
    return {metric: estimate.median for metric, estimate in after.metrics.items()}

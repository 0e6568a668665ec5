"""Problems for the search: an emulated GPU engine that the planner does not know, its prediction of it, and a goal.

The truth of each seed is a roofline with efficiencies and overheads of its own, drawn from wide ranges; the prediction
is that of the shipped performance model for the model and GPU, which knows nothing of these draws.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Final

import numpy as np

from tests.bench.search.strategies import Problem
from tests.bench.search.world import Load, serve
from tests.testkit.emulator.profile import Factors, Profile
from tests.testkit.emulator.scheduler import Limits
from trimtab.catalogue.gpus import Device, find_gpu
from trimtab.catalogue.models import find_model, model_parameters
from trimtab.plan.memory import MemoryModel, limits_of, token_bytes
from trimtab.plan.outlook import Outlook
from trimtab.plan.point import ServingPoint, Traffic
from trimtab.plan.search import Candidates, Estimate, Goal, Limit
from trimtab.plan.search.space import Axis, Space

AXES: Final = (
    Axis("maxNumSeqs", (4, 8, 16, 32, 48, 64, 96, 128, 192, 256)),
    Axis("maxNumBatchedTokens", (512, 1024, 2048, 4096, 8192)),
)
_MODELS: Final = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-14B", "mistralai/Mistral-7B-v0.1")
_GPUS: Final = ("A100", "H100", "L40S", "H200")
_LONGEST: Final = 8192
_BLOCK: Final = 16
_REQUESTS: Final = 384
# Tails are predicted less well than means: their deviation is wider by this.
_TAIL: Final = 2.0


def problem(seed: int) -> Problem:
    """Problem number `seed`: what runs first is a small batch, as cautious users set it."""
    source = random.Random(seed)
    space = Space.of(AXES)
    model = find_model(source.choice(_MODELS))
    gpu = find_gpu(source.choice(_GPUS))
    assert model is not None
    assert gpu is not None
    point = ServingPoint(model=model, device=Device(cpu=False, gpu=gpu), engine="vllm", max_model_len=_LONGEST)
    clients = source.choice((32, 64, 128))
    load = Load(prompt=source.choice((256.0, 1024.0, 2048.0)), output=source.choice((128.0, 256.0)), clients=clients)
    profile = _truth(point, source)
    blocks = int(float(MemoryModel.of(point).kv_tokens(limits_of(point))) // _BLOCK)

    @cache
    def served(sequences: int, tokens: int) -> Mapping[str, float]:
        limits = Limits(
            max_num_seqs=sequences,
            max_batched_tokens=tokens,
            max_model_len=_LONGEST,
            kv_blocks=blocks,
            block_size=_BLOCK,
            prefix_caching=False,
        )
        # The same requests for every configuration: what differs is the configuration, not chance.
        return serve(limits, profile, Factors(), load, seed=seed, requests=max(_REQUESTS, 4 * clients))

    def measured(row: int) -> Mapping[str, float]:
        config = space.config(row)
        # A closed loop never has more requests than clients, so that larger limits are the same.
        return served(min(int(config["maxNumSeqs"]), clients), int(config["maxNumBatchedTokens"]))

    start = space.row({"maxNumSeqs": 8, "maxNumBatchedTokens": 2048})
    assert start is not None
    # Half of the configurations break the limit, so that the best one lies inside the space.
    tails = np.array([measured(row)["itl_p95"] for row in range(space.count)])
    limit = float(np.quantile(tails, source.uniform(0.3, 0.8))) * source.uniform(1.05, 1.3)
    goal = Goal(objective="throughput", limits=(Limit("itl_p95", limit),), min_improvement=0.01)
    return Problem(space, _predicted(space, point, load), goal, start, measured)


def _truth(point: ServingPoint, source: random.Random) -> Profile:
    """Step times of this seed's engine: memory-bound base, compute-bound prompt tokens, overheads."""
    gpu = point.device.gpu
    assert gpu is not None
    parameters = model_parameters(point.model).total
    memory, compute = source.uniform(0.55, 0.9), source.uniform(0.45, 0.8)
    per_token = float(token_bytes(point))
    return Profile(
        platform="cuda",
        base_seconds=2.0 * parameters / gpu.bandwidth / memory + source.uniform(0.0003, 0.004),
        per_prefill_token=2.0 * parameters / (gpu.bf16_flops or 1e12) / compute,
        per_decode_sequence=source.uniform(2e-6, 4e-5),
        # The emulator counts the attention of prompts at the same rate, which GPUs do several times faster.
        per_context_token=0.4 * per_token / gpu.bandwidth / source.uniform(0.5, 0.9),
    )


def _predicted(space: Space, point: ServingPoint, load: Load) -> Candidates:
    points = [
        replace(
            point,
            max_num_seqs=int(space.config(row)["maxNumSeqs"]),
            max_num_batched_tokens=int(space.config(row)["maxNumBatchedTokens"]),
        )
        for row in range(space.count)
    ]
    traffic = Traffic(
        prompt=load.prompt, output=load.output, concurrency=load.clients, output_variation=load.variation,
        prompt_variation=load.variation,
    )  # fmt: skip
    outlook = Outlook.of(points, [traffic] * len(points), [1] * len(points))
    found = outlook.candidates(space.features())
    sd = found.metrics["itl.mean"].sd
    return Candidates(
        space.features(),
        {
            "throughput": found.metrics["throughput"],
            "itl_p95": Estimate(np.log(outlook.latencies["itl.p95"]), sd * _TAIL),
        },
    )

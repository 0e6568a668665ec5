"""Whole plans as JSON, so that a change of wording, order or prediction is seen and meant.

`TRIMTAB_UPDATE_GOLDEN=1 pytest tests/golden/test_golden_plans.py` writes them anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plan.gpu_cases import full_cache, long_prompts, one_of_four, overloaded, target
from tests.unit.plan.scenarios import Pod, one_slot, request, snapshot, well_batched
from trimtab.model.config import EngineConfig
from trimtab.model.plan import Plan
from trimtab.model.slo import Latency
from trimtab.plan import PlanRequest, propose

PLANS = Path(__file__).parent / "plans"

FULL_CACHE = Pod(
    running=12.0,
    waiting=6.0,
    kv_usage=0.99,
    kv_capacity=3000.0,
    prompt=256.0,
    output=128.0,
    preemptions_per_second=1.0,
    ttft=(3.0, 4.0),
    queue=2.5,
    e2e=(6.0, 9.0),
    itl=(0.02, 0.06),
)
CASES: dict[str, PlanRequest] = {
    "one-slot-with-a-long-queue": request(snapshot(one_slot(), one_slot()), {"maxNumSeqs": 1}),
    "well-batched": request(snapshot(well_batched(), well_batched()), {"maxNumSeqs": 32}),
    "full-cache-on-a-cpu": request(
        snapshot(FULL_CACHE, FULL_CACHE), {"maxNumSeqs": 16, "kvCacheMemoryMebibytes": 32}, memory_limit_bytes=4 << 30
    ),
    "full-cache-on-two-of-four-h100": request(
        snapshot(FULL_CACHE, FULL_CACHE),
        {"maxNumSeqs": 16, "tensorParallelSize": 2, "gpuMemoryUtilizationPercent": 80},
        device="H100",
        gpus_per_pod=4,
    ),
    "sglang-with-shared-prefixes": request(
        snapshot(one_slot(hit_rate=0.4, prompt=512.0), engine="sglang", version="0.5.23"),
        {"maxNumSeqs": 1},
        device="L40S",
        gpus_per_pod=1,
    ),
    "h100-8b-with-few-sequences": overloaded(slo=target(Latency.ITL, 0.05)),
    "h100-8b-with-long-prompts": long_prompts(),
    "h100-8b-with-long-prompts-and-a-target-out-of-reach": long_prompts(slo=target(Latency.TTFT, 0.3)),
    "h100-8b-on-one-of-four": one_of_four(slo=target(Latency.ITL, 0.05)),
    "h100-70b-with-a-full-cache": full_cache(),
}


def as_json(value: Any) -> Any:
    """Dataclasses by field, enums by their word, configurations as mappings."""
    if isinstance(value, EngineConfig):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, IntEnum):
        return value.name.capitalize()
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_plan_is_the_one_on_file(name: str) -> None:
    proposal = propose(CASES[name])
    content = as_json(proposal)
    if isinstance(proposal, Plan):
        content = {"name": proposal.name, **content}
        if not proposal.shortfall:
            del content["shortfall"]  # told only where there is one
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path = PLANS / f"{name}.json"
    if os.environ.get("TRIMTAB_UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def test_every_plan_on_file_belongs_to_a_case() -> None:
    assert {path.stem for path in PLANS.glob("*.json")} == set(CASES)

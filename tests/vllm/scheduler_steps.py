"""Steps of vLLM's real schedulers with our limits, without a model: a program for vLLM's interpreter.

    python scheduler_steps.py MODEL

Prints a line of JSON for each of both classes: requests and tokens that each step scheduled under which limits.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from trimtab_engine.engines.vllm.live import LiveLimits, facts_of
from trimtab_engine.engines.vllm.scheduler import LiveAsyncScheduler, live_scheduler
from trimtab_engine.limits.limits import Limits
from trimtab_engine.shared.board import Boards
from trimtab_engine.shared.folder import run_folder
from trimtab_engine.shared.wanted import Wanted, WantedFile
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

BLOCK = 128
CHANGES: tuple[dict[str, int], ...] = (
    {"max_running_requests": 3},
    {"max_running_requests": 8},
    {"max_running_requests": 8, "max_tokens_per_step": 100},
)


def scheduler(model: str, *, asynchronous: bool) -> LiveLimits:
    config = EngineArgs(model=model, max_num_seqs=32, max_num_batched_tokens=512).create_engine_config()
    config.cache_config.num_gpu_blocks = 64
    config.cache_config.block_size = BLOCK
    config.scheduler_config.async_scheduling = asynchronous
    facts = facts_of(config)
    assert (facts.capacity.running_requests, facts.capacity.tokens_per_step) == (32, 512), facts
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=4, head_size=64, dtype=torch.bfloat16)
    cache = KVCacheConfig(
        num_blocks=64, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(layer_names=["0"], kv_cache_spec=spec)]
    )
    return live_scheduler(
        vllm_config=config,
        kv_cache_config=cache,
        structured_output_manager=StructuredOutputManager(config),
        block_size=BLOCK,
        log_stats=True,
    )


def steps(live: Any) -> dict[str, Any]:
    """Adds requests of 40 tokens and takes a step after each change of the limits."""
    boards = Boards(run_folder())
    taken = []
    for revision, change in enumerate(CHANGES, start=1):
        limits = Limits(**{"max_running_requests": 32, "max_tokens_per_step": 512, **change})
        wanted = Wanted(limits=limits, revision=revision, source="file", since="")
        WantedFile(run_folder()).change(lambda _, wanted=wanted: wanted)  # type: ignore[misc]
        for number in range(8):
            parameters = SamplingParams(max_tokens=16)
            live.add_request(
                Request(
                    request_id=f"{revision}-{number}",
                    prompt_token_ids=list(range(40)),
                    sampling_params=parameters,
                    pooling_params=None,
                )
            )
        output = live.schedule()
        boards.find()
        notice = boards.read()
        taken.append(
            {
                "running": notice.running,
                "revision": notice.revision,
                "new": len(output.scheduled_new_reqs),
                "tokens": output.total_num_scheduled_tokens,
            }
        )
        if revision == 2:  # all end, so that the third step has prompts to cut
            for name in [request.request_id for request in live.running]:
                live.finish_requests(name, RequestStatus.FINISHED_ABORTED)
    return {"asynchronous": isinstance(live, LiveAsyncScheduler), "steps": taken}


if __name__ == "__main__":
    for asynchronous in (False, True):
        (Path(run_folder()) / "wanted.json").unlink(missing_ok=True)
        print(json.dumps(steps(scheduler(sys.argv[1], asynchronous=asynchronous))), flush=True)

"""vLLM on a processor: one core does everything in turn, and nothing is faster than the work it has."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.models.make_llama import SHAPES, write
from tests.unit.plan.performance.cases import closed
from trimtab.catalogue.gpus import Device, Processor
from trimtab.catalogue.models import read_config
from trimtab.plan.performance import predict
from trimtab.plan.point import ServingPoint, Traffic

MIB = 1 << 20


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServingPoint:
    """The small Llama on one core, in steps without compiled graphs."""
    folder = tmp_path_factory.mktemp("model")
    write(SHAPES["tiny"], folder)
    config = json.loads((folder / "config.json").read_text()) | {
        "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_key_value_heads": 4, "head_dim": 64,
    }  # fmt: skip
    return ServingPoint(
        model=read_config(config, name="m75").shape,
        device=device(cores=1),
        engine="vllm",
        version="0.32.0",
        max_num_seqs=32,
        max_num_batched_tokens=2048,
        kv_cache_bytes=256 * MIB,
        kv_block_tokens=128,
        cuda_graphs=False,
    )


def device(cores: int) -> Device:
    processor = Processor(cores=cores, memory_bytes=4 << 30, bandwidth=1.4e10, bf16_flops=2e11)
    return Device(cpu=True, processor=processor)


def changed(point: ServingPoint, **fields: object) -> ServingPoint:
    return replace(point, **fields)  # type: ignore[arg-type]


def test_one_core_answers_and_computes_in_turn_and_so_serves_less_than_two(served: ServingPoint) -> None:
    traffic = closed(16, prompt=64, output=64)
    one, two = predict(served, traffic), predict(changed(served, device=device(cores=2)), traffic)
    assert one.tpot > 1.1 * two.tpot
    assert one.output_tokens < two.output_tokens


@pytest.mark.parametrize("clients", [1, 4, 8])
def test_a_cycle_has_room_for_every_prompt_of_it(served: ServingPoint, clients: int) -> None:
    """One client alone tells how long a prompt takes; several of them cannot be served faster than one by one."""
    traffic = Traffic(prompt=1500, output=4, concurrency=clients)
    alone = predict(served, Traffic(prompt=1500, output=1, concurrency=1)).ttft.mean
    cycle = 1e3 * clients / predict(served, traffic).requests
    assert cycle > 0.7 * clients * alone


def test_an_8_bit_cache_is_slower_to_read_and_holds_more_requests(served: ServingPoint) -> None:
    long = closed(8, prompt=1024, output=128)
    plain, small = predict(served, long), predict(changed(served, kv_cache="fp8"), long)
    assert small.tpot > plain.tpot
    tight = changed(served, kv_cache_bytes=32 * MIB)
    assert predict(changed(tight, kv_cache="fp8"), long).running > predict(tight, long).running


def test_requests_that_grow_into_another_block_leave_room_for_fewer(served: ServingPoint) -> None:
    """Prompts of a block and a half: by their mean length two blocks would do, and those that have grown hold three."""
    tight = changed(served, kv_cache_bytes=32 * MIB)
    many = Traffic(prompt=192, output=96, concurrency=32)
    within_two, into_three = predict(tight, Traffic(prompt=160, output=96, concurrency=32)), predict(tight, many)
    assert into_three.running < 0.95 * within_two.running
    assert into_three.running > 2 / 3 * within_two.running


def test_the_engine_plans_no_step_ahead_on_a_processor_whatever_its_version(served: ServingPoint) -> None:
    traffic = closed(8, prompt=64, output=64)
    old = changed(served, version="0.10.0")
    assert predict(served, traffic).tpot == pytest.approx(predict(old, traffic).tpot, rel=0.02)

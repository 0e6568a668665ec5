"""GPUs that fail behind `trimtab-engine serve`: NVML is a library of ours that answers as NVIDIA's, the engine is the
emulator. Everything between the two is what runs on a machine with GPUs."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import signal
import subprocess
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.contract.image import Image, until
from tests.testkit.client import MODEL_NAME
from tests.testkit.nvml import DRIVER_NOT_LOADED, GPU_IS_LOST, Card, Machine, uuid

pytestmark = pytest.mark.emulator

# With 12 heads, of which 4 keys and values each, a layer goes onto 1, 2 or 4 GPUs, and not onto 3.
SHAPE = {
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "max_position_embeddings": 8192,
}
FAST = {"TRIMTAB_ENGINE_GPUS__INTERVAL_SECONDS": "0.2", "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME}
FOUR = {**FAST, "TRIMTAB_ENGINE_GPUS__TENSOR_PARALLEL": "4"}


def image(folder: Path, environment: Mapping[str, str]) -> Image:
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(json.dumps(SHAPE))
    return Image(folder, model=str(model), environment=environment)


def engine_of(server: subprocess.Popen[bytes]) -> int:
    """The engine's process, the one child that is not the reader of the GPUs."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    (found,) = (child for child in children if b"vllm" in Path(f"/proc/{child}/cmdline").read_bytes())
    return int(found)


def words_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")


def visible_to(process: int) -> str | None:
    lines = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(line.partition("=")[::2] for line in lines).get("CUDA_VISIBLE_DEVICES")


def status(server: Image) -> Any:
    try:
        return server.document("/v1/optimization/status")["gpus"]
    except (OSError, http.client.HTTPException):
        return {"recoveries": []}  # while the next engine starts


def outcome(server: Image, tokens: int) -> str:
    """How a client sees one request end."""
    try:
        return str(server.complete(tokens))
    except (http.client.HTTPException, urllib.error.URLError, OSError) as error:
        return type(error).__name__


@pytest.mark.parametrize(
    ("absence", "why"),
    [
        ("no library", "NVML cannot be used: NVML Shared Library Not Found"),
        ("no driver", "NVML cannot be used: Driver Not Loaded"),
        ("switched off", "gpus.watch is false"),
    ],
)
def test_without_gpus_the_server_says_so_in_one_sentence_and_serves(tmp_path: Path, absence: str, why: str) -> None:
    if absence == "no driver":
        found = Machine(folder=tmp_path, cards=[], init=DRIVER_NOT_LOADED).environment
    else:
        (tmp_path / "libnvidia-ml.so.1").write_text("no library")
        found = {"LD_LIBRARY_PATH": str(tmp_path)}
    switch = {"TRIMTAB_ENGINE_GPUS__WATCH": "false"} if absence == "switched off" else {}
    server = image(tmp_path, {**FAST, **found, **switch})
    with server.serving():
        health = server.document("/health")
        assert (health["status"], health["gpus"]) == ("ok", {"watched": False, "why": f"GPUs are not watched: {why}."})
        told = server.document("/v1/optimization/status")["gpus"]
        assert (told["why"], told["gpus"], told["recoveries"]) == (f"GPUs are not watched: {why}.", [], [])
        assert server.gauge("trimtab_engine_gpus_watched") == 0
        assert server.complete(4) == 200
    assert f"GPUs are not watched: {why}." in server.log.read_text()


def test_gpus_that_fail_one_after_the_other_leave_the_server_smaller_and_at_last_end_it(tmp_path: Path) -> None:
    machine = Machine(folder=tmp_path, cards=[Card() for _ in range(4)])
    server = image(tmp_path, {**FOUR, **machine.environment})
    with server.started("--emulator-speed", "0.2") as process, concurrent.futures.ThreadPoolExecutor(1) as pool:
        until(lambda: server.answers(process), "the server answers")
        health = server.document("/health")
        assert health["gpus"] == {"watched": True, "why": None, "ok": 4, "degraded": 0, "failed": 0, "in_use": 4}
        first = engine_of(process)
        assert visible_to(first) == os.environ.get("CUDA_VISIBLE_DEVICES")  # nothing failed: as it was
        assert "--tensor-parallel-size 4" in " ".join(words_of(first))
        assert server.gauge("trimtab_engine_gpu_memory_used_bytes") == 4 * Card().used
        assert server.gauge("trimtab_engine_gpu_utilization_ratio") == pytest.approx(3.6)

        running = pool.submit(outcome, server, 4000)
        until(lambda: server.gauge("vllm:num_requests_running") == 1, "one runs")
        machine.change(2, code=GPU_IS_LOST)
        assert running.result() != "200"  # as when an engine is killed
        until(lambda: len(status(server)["recoveries"]) == 1, "the engine serves again")
        second = engine_of(process)
        assert visible_to(second) == f"{uuid(0)},{uuid(1)}"
        assert "--tensor-parallel-size 2" in " ".join(words_of(second))
        health = server.document("/health")
        assert (health["status"], health["engine"]) == ("degraded", "vllm")
        assert health["reasons"]["fewer_gpus"] == (
            f"The engine computes on tensor 2 instead of tensor 4. GPU 2 ({uuid(2)}) has failed: it does not answer: "
            "GPU is lost. The engine starts again on 2 of 4 GPUs (tensor 2; before: tensor 4)."
        )
        assert health["reasons"]["gpu_unwell"] == f"GPU 2 ({uuid(2)}) has failed: it does not answer: GPU is lost."
        assert "fallback_engine" not in health["reasons"]
        lost = f'{{gpu="2",uuid="{uuid(2)}"}}'
        assert server.gauge(f"trimtab_engine_gpu_lost{lost}") == server.gauge("trimtab_engine_gpu_lost") == 1
        recovered = 'trimtab_engine_gpu_recoveries{action="restart_with_fewer",cause="gpu_failed"}'
        assert server.gauge(recovered) == 1
        assert server.complete(4) == 200

        machine.report(0, 79)
        until(lambda: len(status(server)["recoveries"]) == 2, "the engine serves again")
        assert visible_to(engine_of(process)) == f"{uuid(1)},{uuid(3)}"
        machine.change(1, failure=1)
        until(lambda: len(status(server)["recoveries"]) == 3, "the engine serves again")
        third = engine_of(process)
        assert (visible_to(third), "--tensor-parallel-size 1" in " ".join(words_of(third))) == (uuid(3), True)
        assert server.complete(4) == 200

        machine.change(3, advice=1)
        assert process.wait(30) == 4
    log = server.log.read_text()
    assert f"GPU 3 ({uuid(3)}) has failed: the driver recommends: gpu_reset. No GPU is left." in log


def test_an_engine_that_its_gpu_ended_is_not_followed_by_another_engine(tmp_path: Path) -> None:
    """The look that tells why comes after the end. A contained error leaves the GPU, an uncorrected one does not."""
    machine = Machine(folder=tmp_path, cards=[Card(), Card()])
    two = {**FAST, "TRIMTAB_ENGINE_GPUS__TENSOR_PARALLEL": "2", "TRIMTAB_ENGINE_GPUS__INTERVAL_SECONDS": "1"}
    server = image(tmp_path, {**two, **machine.environment})
    with server.serving() as process:
        machine.events += [(1, 48), (1, 94)]
        machine.change(1, ecc=1, pending=1)
        os.kill(engine_of(process), signal.SIGKILL)
        until(lambda: len(status(server)["recoveries"]) == 1, "the engine serves again")
        told = status(server)
        assert (told["recoveries"][0]["action"], told["layout"]["tensor"]) == ("restart", 2)
        assert [gpu["reason"] for gpu in told["gpus"]] == ["none", "memory_repair_pending"]
        assert server.document("/health")["status"] == "degraded"

        machine.change(0, ecc=3)
        os.kill(engine_of(process), signal.SIGKILL)
        until(lambda: len(status(server)["recoveries"]) == 2, "the engine serves again")
        told = status(server)
        assert (told["recoveries"][1]["action"], told["layout"]["tensor"]) == ("restart_with_fewer", 1)
        assert visible_to(engine_of(process)) == uuid(1)
        assert server.complete(4) == 200


def test_a_gpu_that_cannot_be_used_at_the_start_is_left_out(tmp_path: Path) -> None:
    machine = Machine(folder=tmp_path, cards=[Card(failure=1), Card(), Card(), Card()])
    server = image(tmp_path, {**FOUR, **machine.environment, "CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    with server.serving() as process:
        assert visible_to(engine_of(process)) == f"{uuid(1)},{uuid(2)}"
        reason = server.document("/health")["reasons"]["fewer_gpus"]
        assert reason.startswith("The engine computes on tensor 2 instead of tensor 4.")
    told = f"vllm starts with tensor 2. GPU 0 ({uuid(0)}) has failed: a row of its memory could not be remapped."
    assert told in server.log.read_text()


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("3", "gpus.tensor_parallel: the model's 4 key and value heads cannot be shared out over 3 GPUs"),
        ("5", "gpus.tensor_parallel: 5 does not divide the model's 12 attention heads; possible are 1, 2, 4, 12"),
        (
            "12",
            "gpus.tensor_parallel: tensor 12 needs 12 GPUs, and there are 4; ask for more GPUs or for smaller sizes",
        ),
    ],
)
def test_sizes_that_cannot_be_end_the_server_before_the_engine_starts(tmp_path: Path, size: str, said: str) -> None:
    machine = Machine(folder=tmp_path, cards=[Card() for _ in range(4)])
    server = image(tmp_path, {**FAST, "TRIMTAB_ENGINE_GPUS__TENSOR_PARALLEL": size, **machine.environment})
    with server.started() as process:
        assert process.wait(30) == 2
    log = server.log.read_text()
    assert "The configuration cannot be used:" in log
    assert said in log

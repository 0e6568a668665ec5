"""Real engines, cut over two processes of a CPU, of which one loses its GPU by what NVML says: the engine starts again
in one process and says the same. NVML is the library of `tests/testkit/nvml`."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import urllib.error
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.testkit.client import MODEL_NAME
from tests.testkit.nvml import GPU_IS_LOST, Card, Machine, uuid
from tests.vllm.asking import complete, text_of
from tests.vllm.server import ROOT, VllmServer, chain_command

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]


def health_with(server: VllmServer, in_use: int, seconds: float = 400) -> dict[str, Any]:
    """What /health says once the engine computes on so many GPUs."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError, ValueError):
            health: dict[str, Any] = json.loads(server.get("/health", seconds=5))
            if health["gpus"].get("in_use") == in_use:
                return health
        time.sleep(0.2)
    raise AssertionError(f"the engine does not compute on {in_use} GPUs:\n{server.log_tail()}")


@pytest.mark.parametrize("engine", ["vllm", "deepspeed"])
def test_a_real_engine_starts_again_on_the_gpu_that_is_left_and_says_the_same(tmp_path: Path, engine: str) -> None:
    machine = Machine(folder=tmp_path, cards=[Card(), Card()])
    bindings = tmp_path / "bindings"
    bindings.mkdir()
    shutil.copy(pynvml.__file__, bindings)
    own = {
        **machine.environment,
        "PYTHONPATH": f"{ROOT / 'engine_image'}:{bindings}",
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME,
        "TRIMTAB_ENGINE_ENGINES__PREFERENCE": f"[{engine}]",
        "TRIMTAB_ENGINE_ENGINES__DEEPSPEED__DTYPE": "float32",
        "TRIMTAB_ENGINE_GPUS__TENSOR_PARALLEL": "2",
    }
    log = ROOT / "build" / "vllm" / f"gpu-failure-{engine}.log"
    server = VllmServer("--enforce-eager", "--dtype", "float32", log=log, env=own, start=chain_command)
    server.start()
    try:
        assert health_with(server, 2)["status"] == "ok"
        before = text_of(complete(server, temperature=0))
        process = server.process.pid
        machine.change(1, code=GPU_IS_LOST)
        health = health_with(server, 1)
        assert health["engine"] == engine
        assert list(health["reasons"]) == ["gpu_unwell", "fewer_gpus"]
        assert text_of(complete(server, temperature=0)) == before
        status = json.loads(server.get("/v1/optimization/status"))["gpus"]
        assert (status["asked"]["tensor"], status["layout"]["tensor"]) == (2, 1)
        assert [gpu["uuid"] for gpu in status["gpus"] if gpu["in_use"]] == [uuid(0)]
        assert server.process.pid == process and server.process.poll() is None
    finally:
        server.stop()

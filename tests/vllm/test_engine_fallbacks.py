"""Real vLLM, DeepSpeed, ONNX Runtime and PyTorch, one after the other: what each says, and why the next one serves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.make_llama import cache_root
from tests.testkit.client import MODEL_NAME
from tests.vllm.asking import complete, most_at_once, streamed, text_of
from tests.vllm.server import ROOT, VllmServer, chain_command
from trimtab_engine import probe

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]

FOUR = ("vllm", "deepspeed", "onnx", "pytorch")
# In 32 bits all engines compute the same up to about 1e-5 nats; in 16 bits they may part where two tokens are nearly
# equally likely. So answers are compared in 32 bits, token for token.
IN_32_BITS = {
    "TRIMTAB_ENGINE_ENGINES__DEEPSPEED__DTYPE": "float32",
    "TRIMTAB_ENGINE_ENGINES__PYTORCH__DTYPE": "float32",
}


@contextlib.contextmanager
def serving(name: str, *arguments: str, **fields: str) -> Iterator[VllmServer]:
    """A server with these fields of the section `engines`, each as PART__FIELD."""
    own = {
        "PYTHONPATH": str(ROOT / "engine_image"),
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME,
        "TRIMTAB_ENGINE_ENGINES__ONNX__CACHE_FOLDER": str(cache_root() / "engine-converted"),
        **IN_32_BITS,
        **{f"TRIMTAB_ENGINE_ENGINES__{field}": value for field, value in fields.items()},
    }
    log = ROOT / "build" / "vllm" / f"{name}.log"
    server = VllmServer(*arguments, log=log, env=own, start=chain_command)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def wait_for(server: VllmServer, engine: str, seconds: float = 400) -> dict[str, Any]:
    """What /health says when this engine serves."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError, ValueError):
            health: dict[str, Any] = json.loads(server.get("/health", seconds=5))
            if health["engine"] == engine:
                return health
        time.sleep(0.2)
    raise AssertionError(f"{engine} does not serve:\n{server.log_tail()}")


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def part_of(process: int) -> int:
    """The process of the model's second part, which the first one has started."""
    (found,) = (child for child in children(process) if b"deepspeed" in Path(f"/proc/{child}/cmdline").read_bytes())
    return found


def test_each_engine_says_the_same_and_is_followed_by_the_next_when_it_is_killed() -> None:
    with serving("four-engines", "--enforce-eager", "--dtype", "float32", DEEPSPEED__TENSOR_PARALLEL="2") as server:
        said: dict[str, str] = {}
        for place, name in enumerate(FOUR):
            health = wait_for(server, name)
            reasons = [f"{before} ended " in health["reasons"]["fallback_engine"] for before in FOUR[:place]]
            assert health["status"] == ("degraded" if place else "ok")
            assert all(reasons)
            said[name] = text_of(complete(server, temperature=0))
            assert f'trimtab_engine_info{{name="{name}"}} 1.0' in server.get("/metrics")
            (engine,) = children(server.process.pid)
            if place < 3:
                os.kill(part_of(engine) if name == "deepspeed" else engine, signal.SIGKILL)
        assert set(said.values()) == {said["pytorch"]}
        status = json.loads(server.get("/v1/optimization/status"))
        assert status["engines"] == dict.fromkeys(FOUR[:3], "ended_while_serving") | {"pytorch": "serving"}
        messages = [passed["message"] for passed in status["passed_over"]]
        assert messages == [
            "vllm ended by signal 9 while it served.",
            "deepspeed ended with status 1 while it served: its generation ended.",
            "onnx ended by signal 9 while it served.",
        ]
        metrics = server.get("/metrics")
        for name in FOUR[:3]:
            assert f'trimtab_engine_passed_over{{name="{name}",reason="ended_while_serving"}} 1.0' in metrics


def test_a_model_that_cannot_be_cut_and_a_conversion_that_differs_are_refused_with_the_numbers() -> None:
    """Random weights are unlike trained ones: in 4 bits they say something else."""
    fields = {"PREFERENCE": "[deepspeed, onnx, pytorch]", "DEEPSPEED__TENSOR_PARALLEL": "3"}
    with serving("refused-engines", **fields, ONNX__PRECISION="int4") as server:
        health = wait_for(server, "pytorch")
        reason = health["reasons"]["fallback_engine"]
        assert "the model's 4 key and value heads cannot be shared out over 3 processes" in reason
        assert "the int4 conversion may not be used: log-probabilities differ by 0.5" in reason
        assert "more than 0.25" in reason
        log = server.log.read_text(errors="replace")
        passed = json.loads(server.get("/v1/optimization/status"))["passed_over"]
        assert [entry["engine"] for entry in passed] == ["deepspeed", "onnx"]
        assert all(entry["message"] in log for entry in passed)


@pytest.fixture(scope="module")
def onnx() -> Iterator[VllmServer]:
    with serving("onnx-engine", PREFERENCE="[onnx]") as server:
        wait_for(server, "onnx")
        yield server


def test_streams_chats_and_samples_are_answered(onnx: VllmServer) -> None:
    whole = text_of(complete(onnx, temperature=0))
    assert "".join(streamed(onnx)) == whole
    chat = onnx.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5})
    assert chat["choices"][0]["message"]["role"] == "assistant"
    assert len({text_of(complete(onnx, temperature=1.5)) for _ in range(3)}) > 1
    assert probe.main(["--port", str(onnx.port), "--timeout", "60"]) == 0


async def test_under_load_every_request_is_answered_and_rows_run_together(onnx: VllmServer) -> None:
    assert await most_at_once(onnx, requests=48) == 8
    assert json.loads(onnx.get("/v1/optimization/status"))["load"]["inside"] == 0


def test_sigterm_ends_it(onnx: VllmServer) -> None:
    """The last test: the server has gone afterwards."""
    onnx.process.terminate()
    assert onnx.process.wait(60) == 0

"""`trimtab-engine bench sweep` over real vLLM: what helps stays, what harms is taken back while the server serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testkit.client import MODEL_NAME
from tests.vllm.server import ROOT, VllmServer, trimtab_command
from trimtab_engine.bench.program import main

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]

STEPS = """
- {name: more at once, limits: {max_running_requests: 16}}
- {name: one at a time, limits: {max_running_requests: 1}}
- {name: too many, limits: {max_running_requests: 99}}
- {name: needs a restart, arguments: [--kv-cache-dtype, fp8]}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VllmServer]:
    """Of 32 requests that could run, two may."""
    token = tmp_path / "token"
    token.write_text("a-token-of-some-length")
    own = {
        "PYTHONPATH": str(ROOT / "engine_image"),
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME,
        "TRIMTAB_ENGINE_SERVER__TOKEN_FILE": str(token),
        "TRIMTAB_ENGINE_LIMITS__MAX_RUNNING_REQUESTS": "2",
    }
    arguments = ("--enforce-eager", "--max-num-seqs", "32", "--max-num-batched-tokens", "1024")
    running = VllmServer(*arguments, log=ROOT / "build" / "vllm" / "sweep.log", env=own, start=trimtab_command)
    running.start()
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


async def test_what_helps_stays_and_what_harms_is_taken_back(server: VllmServer, tmp_path: Path) -> None:
    steps, out = tmp_path / "steps.yaml", tmp_path / "ladder.json"
    steps.write_text(STEPS)
    # Sixteen at once take longer for a token than two: how much of that is granted is for whoever sweeps to say.
    load = ["--clients", "16", "--seconds", "10", "--characters-per-token", "1", "--loss", "4"]
    given = ["--url", server.url, "--token-file", str(tmp_path / "token"), "--steps", str(steps), "--out", str(out)]
    assert await asyncio.to_thread(main, ["sweep", *given, *load]) == 0
    ladder = json.loads(out.read_text())["ladder"]
    assert [(rung["step"]["name"], rung["kept"]) for rung in ladder] == [
        ("more at once", True),
        ("one at a time", False),
        ("too many", False),
        ("needs a restart", False),
    ]
    assert ladder[0]["low"] > 1.2
    assert ladder[1]["high"] < 0.8
    assert "max_running_requests" in ladder[2]["why"]
    assert "restart" in ladder[3]["why"]
    assert json.loads(server.get("/v1/optimization/status"))["limits"]["max_running_requests"] == 16

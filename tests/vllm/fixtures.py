"""A pytest fixture that starts real vLLM. A conftest.py imports it by name; tests carry the marker `vllm`:

pytestmark = pytest.mark.vllm

def test_something(vllm_server: StartVllm) -> None:
    server = vllm_server("--max-num-seqs", "4")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vllm.server import ROOT, VllmServer

StartVllm = Callable[..., VllmServer]


@pytest.fixture(scope="module")
def vllm_server(request: pytest.FixtureRequest) -> Iterator[StartVllm]:
    """Starts `vllm serve --enforce-eager` with the given arguments and waits until it is ready.

    The same arguments give the same server while it runs; other ones stop it first, so that only one runs at a time.
    The last one is stopped with the module. Logs are kept in build/vllm/.
    """
    module = Path(str(request.path)).stem
    running: list[VllmServer] = []

    def start(*arguments: str) -> VllmServer:
        if running and running[0].arguments[1:] == arguments and running[0].process.poll() is None:
            return running[0]
        stop()
        name = re.sub(r"[^a-z0-9]+", "-", " ".join((module, *arguments)).lower()).strip("-")[:100]
        server = VllmServer("--enforce-eager", *arguments, log=ROOT / "build" / "vllm" / f"{name}.log")
        running.append(server)
        server.start()
        server.wait_until_ready()
        return server

    def stop() -> None:
        while running:
            running.pop().stop()

    yield start
    stop()

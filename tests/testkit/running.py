"""Runs the emulator for a test, as a process or in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tests.testkit.client import MODEL_NAME
from tests.testkit.emulator.faults import Faults, read_faults
from tests.testkit.emulator.flags import parse
from tests.testkit.emulator.lifecycle import serve
from tests.testkit.ports import free_port
from tests.testkit.process import ServerProcess
from trimtab_engine.config.load import load
from trimtab_engine.shared.folder import START, replace_json

ROOT = Path(__file__).resolve().parents[2]


class EmulatorServer(ServerProcess):
    """A running emulator process; use it with `with`.

    >>> with EmulatorServer("--max-num-seqs", "4", log=Path("build/emulator.log")) as server:
    ...     server.get("/metrics")
    """

    PROGRAM, START_SECONDS, STOP_SECONDS = "the emulator", 60.0, 10.0

    def __init__(self, *arguments: str, log: Path, env: Mapping[str, str] | None = None) -> None:
        port = free_port()
        start = [sys.executable, "-m", "tests.testkit.emulator", "serve", MODEL_NAME, "--host", "127.0.0.1"]
        own = ["--port", str(port), "--emulator-startup-seconds", "0", "--kv-cache-memory-bytes", "256M"]
        super().__init__([*start, *own, *arguments], port=port, log=log, env={**os.environ, **(env or {})}, folder=ROOT)


class OurServer(EmulatorServer):
    """Our own server, all of it but the model: uvicorn and the layers of the image over the emulated engine.

    `fields` are those of its configuration, such as `{"limits.max_running_requests": 4}`; it runs in `folder`.

    >>> with OurServer(folder=tmp_path, fields={"monitor.window_seconds": 10}) as server:
    ...     server.get("/v1/optimization/metrics")
    """

    def __init__(
        self, *, folder: Path, fields: Mapping[str, object] | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        paths = os.pathsep.join(str(ROOT / part) for part in ("", "engine_image"))
        super().__init__(log=folder / "server.log", env={"PYTHONPATH": paths, **(env or {})})
        own = {"model": MODEL_NAME, "server.host": "127.0.0.1", "server.port": self.port}
        folder.mkdir(parents=True, exist_ok=True)
        replace_json(folder / START, load(None, {}, {**own, **(fields or {})}).model_dump(mode="json"))
        self._command = [sys.executable, "-m", "tests.testkit.emulator.generator", str(folder)]


@contextlib.asynccontextmanager
async def emulator_here(
    *arguments: str, faults: Mapping[str, str] | None = None, speed: float = 200.0
) -> AsyncIterator[str]:
    """An emulator in the running event loop; yields its address. `faults` are `EMULATOR_*` variables."""
    port = free_port()
    own = ["--host", "127.0.0.1", "--port", str(port), "--emulator-speed", str(speed)]
    config = parse(["serve", MODEL_NAME, *own, *arguments], faults)
    stop, ready = asyncio.Event(), asyncio.Event()
    played: Faults = read_faults(faults or {}, config.flags)
    serving = asyncio.create_task(serve(config, played, stop=stop, ready=ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if serving.done():
        serving.result()  # why it could not start
        raise RuntimeError("the emulator ended before it was ready")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        await serving

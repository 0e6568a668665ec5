"""Runs the emulator for a test: as a process with the interface of `tests.vllm.server.VllmServer`, or in the test's
own event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.testkit.client import MODEL_NAME, EngineClient, free_port
from tests.testkit.emulator.faults import Faults, read_faults
from tests.testkit.emulator.flags import parse
from tests.testkit.emulator.lifecycle import serve
from trimtab_engine.config.load import load
from trimtab_engine.shared.folder import START, replace_json

ROOT = Path(__file__).resolve().parents[2]


class NotStartedError(Exception):
    """The emulator ended before it was ready; the message holds its exit code and what it said."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"the emulator ended with {code}:\n{said}")
        self.code = code
        self.said = said


class EmulatorServer(EngineClient):
    """A running emulator process; use it with `with`.

    >>> with EmulatorServer("--max-num-seqs", "4", log=Path("build/emulator.log")) as server:
    ...     server.get("/metrics")
    """

    def __init__(self, *arguments: str, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        start = [sys.executable, "-m", "tests.testkit.emulator", "serve", MODEL_NAME, "--host", "127.0.0.1"]
        own = ["--port", str(self.port), "--emulator-startup-seconds", "0", "--kv-cache-memory-bytes", "256M"]
        self._command = [*start, *own, *arguments]
        self._environment = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process

    def start(self) -> None:
        """Starts the process without waiting for it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._output = self.log.open("wb")
        self._process = subprocess.Popen(
            self._command, env=self._environment, cwd=ROOT, stdout=self._output, stderr=subprocess.STDOUT
        )

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Returns when /health answers 200; raises NotStartedError when the process ends first."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.process.poll() is not None:
                raise NotStartedError(self.process.returncode, self.log.read_text(errors="replace"))
            try:
                self.get("/health", seconds=5)
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise NotStartedError(-1, f"not ready after {seconds:.0f} s")

    def stop(self, seconds: float = 10) -> int:
        """SIGTERM, and SIGKILL when the time is over; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        code = self.process.wait()
        if self._output:
            self._output.close()
        return code

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()


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
    await ready.wait()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        await serving

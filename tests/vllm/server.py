"""Starts one real vLLM on 127.0.0.1 and stops it again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.models.make_llama import cache_root, cached
from tests.testkit.client import MODEL_NAME, EngineClient, free_port
from tests.vllm import venv

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0

# As in the engine image for the CPU, with one thread and a KV cache of a fixed size: vLLM otherwise sizes itself by the
# whole machine.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_USE_AOT_COMPILE": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "HF_HUB_OFFLINE": "1",
}
ARGUMENTS = ("--kv-cache-memory-bytes", "256M")


class NotStartedError(Exception):
    """vLLM ended before it was ready; the message holds the exit code and the last lines of its log."""


def command(model: Path, port: int, arguments: Sequence[str]) -> list[str]:
    """`vllm serve` as the engine image runs it, but on loopback only."""
    start = [str(venv.python()), "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--host", "127.0.0.1"]
    return [*start, "--port", str(port), "--served-model-name", MODEL_NAME, *ARGUMENTS, *arguments]


def trimtab_command(model: Path, port: int, arguments: Sequence[str]) -> list[str]:
    """`trimtab-engine serve`; `arguments` are vLLM's own."""
    return _trimtab(venv.python(), model, port, arguments)


def chain_command(model: Path, port: int, arguments: Sequence[str]) -> list[str]:
    """The same, where all four engines are installed."""
    return _trimtab(venv.fallback_python(), model, port, arguments)


def _trimtab(python: Path, model: Path, port: int, arguments: Sequence[str]) -> list[str]:
    start = [str(python), "-m", "trimtab_engine.main", "serve", "--model", str(model), "--host", "127.0.0.1"]
    return [*start, "--port", str(port), "--", *ARGUMENTS, *arguments]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    caches = cache_root() / f"engine-compiled-{venv.key()}"
    own = {"VLLM_CACHE_ROOT": str(caches / "vllm"), "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor")}
    return {**os.environ, **ENVIRONMENT, **own, **(extra or {})}


class VllmServer(EngineClient):
    """A running `vllm serve`; use it with `with`. Later arguments override `ARGUMENTS`. It serves the random
    model of `size`, or the one in the folder `model`.

    >>> with VllmServer("--enforce-eager", log=Path("build/vllm.log")) as server:
    ...     server.get("/metrics")
    """

    def __init__(
        self,
        *arguments: str,
        log: Path,
        size: str = "m75",
        env: Mapping[str, str] | None = None,
        model: Path | None = None,
        start: Callable[[Path, int, Sequence[str]], list[str]] = command,
    ) -> None:
        self.arguments = arguments
        self.log = log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start_seconds = 0.0
        self._command = start(model or cached(size), self.port, arguments)
        self._environment = environment(env)
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
            self._command,
            env=self._environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Returns when /health answers 200; raises NotStartedError when the process ends or the time is over."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.process.poll() is not None:
                raise NotStartedError(f"vLLM ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                self.get("/health", seconds=5)
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
            else:
                self.start_seconds = time.monotonic() - began
                return
        raise NotStartedError(f"vLLM was not ready after {seconds:.0f} s:\n{self.log_tail()}")

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, seconds: float = 30) -> int:
        """Ends the server as Kubernetes does: SIGTERM, and SIGKILL for the whole group when the time is over."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        if self._output:
            self._output.close()
        return code

    def __enter__(self) -> VllmServer:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

"""An engine as a process of its own on 127.0.0.1: started, waited for, and ended as Kubernetes ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

from tests.testkit.client import EngineClient


class NotStartedError(Exception):
    """The server ended with `code` before it was ready, or was not ready in time (None); `said` is its log."""

    def __init__(self, program: str, code: int | None, said: str) -> None:
        how = "was not ready in time" if code is None else f"ended with {code} before it was ready"
        super().__init__(f"{program} {how}:\n{_end(said)}")
        self.code = code
        self.said = said


class ServerProcess(EngineClient):
    """A running server; use it with `with`. What its children leave behind is ended with it."""

    PROGRAM: ClassVar[str]
    START_SECONDS: ClassVar[float]
    STOP_SECONDS: ClassVar[float]

    def __init__(
        self, command: Sequence[str], *, port: int, log: Path, env: Mapping[str, str], folder: Path | None = None
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.start_seconds = 0.0
        self._command = list(command)
        self._environment = dict(env)
        self._folder = folder
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
            cwd=self._folder,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_until_ready(self, seconds: float | None = None) -> None:
        """Returns when /health answers 200; raises NotStartedError when the process ends or the time is over."""
        began = time.monotonic()
        while time.monotonic() - began < (self.START_SECONDS if seconds is None else seconds):
            if self.process.poll() is not None:
                raise NotStartedError(self.PROGRAM, self.process.returncode, self.log.read_text(errors="replace"))
            try:
                self.get("/health", seconds=5)
            except OSError:
                time.sleep(0.05)
            else:
                self.start_seconds = time.monotonic() - began
                return
        raise NotStartedError(self.PROGRAM, None, self.log.read_text(errors="replace"))

    def log_tail(self) -> str:
        """The last lines of what it said."""
        return _end(self.log.read_text(errors="replace"))

    def stop(self, seconds: float | None = None) -> int:
        """SIGTERM, and SIGKILL for the whole group when the time is over; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.STOP_SECONDS if seconds is None else seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def _end(log: str, lines: int = 30) -> str:
    return "\n".join(log.splitlines()[-lines:])

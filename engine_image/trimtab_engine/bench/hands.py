"""How the sweep changes a server: limits of one that runs, or arguments of one that it starts itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from trimtab_engine.bench.server import Server


class CannotError(RuntimeError):
    """The server cannot be changed so; the message says why."""


class Hands(Protocol):
    server: Server

    async def set(self, limits: Mapping[str, Any], arguments: Sequence[str]) -> float:
        """Brings the server to these limits and arguments; seconds until it serves so."""


class Running:
    """A server that somebody else started."""

    def __init__(self, server: Server) -> None:
        self.server = server

    async def set(self, limits: Mapping[str, Any], arguments: Sequence[str]) -> float:
        if arguments:
            raise CannotError("arguments need a restart: give --model instead of --url, so that sweep serves it itself")
        return await self.server.configure(limits)


class Started:
    """A server of our own, started anew where its arguments change."""

    def __init__(
        self, model: str, *, port: int, config: Path | None, token_file: Path, log: Path, seconds: float
    ) -> None:
        self.server = Server(f"http://127.0.0.1:{port}", token_file=token_file)
        self._command = [sys.executable, "-m", "trimtab_engine.main", "serve", "--model", model, "--host", "127.0.0.1"]
        self._command += ["--port", str(port), *(["--config", str(config)] if config else [])]
        self._environment = {**os.environ, "TRIMTAB_ENGINE_SERVER__TOKEN_FILE": str(token_file)}
        self._log = log
        self._seconds = seconds
        self._arguments: tuple[str, ...] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def set(self, limits: Mapping[str, Any], arguments: Sequence[str]) -> float:
        began = time.monotonic()
        if self._process is None or tuple(arguments) != self._arguments:
            await asyncio.to_thread(self.stop)
            await self._start(tuple(arguments))
        if limits:
            await self.server.configure(limits)
        return time.monotonic() - began

    def stop(self) -> None:
        """SIGTERM: what it has accepted is answered first. The engine is the server's child, and ends with it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(self._seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _begin(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as out:
            return subprocess.Popen(
                [*self._command, "--", *arguments],
                env=self._environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def _start(self, arguments: tuple[str, ...]) -> None:
        self._process = process = await asyncio.to_thread(self._begin, arguments)
        until = time.monotonic() + self._seconds
        while time.monotonic() < until and process.poll() is None:
            try:
                await self.server.about()
            except (OSError, aiohttp.ClientError, LookupError):
                await asyncio.sleep(0.2)
            else:
                self._arguments = arguments
                return
        self.stop()
        raise CannotError(f"the server did not start with {' '.join(arguments) or 'no arguments'}; see {self._log}")

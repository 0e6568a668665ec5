"""Serves /metrics, /healthz and /readyz. Reads one request line, answers, closes: nothing else is understood."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Self

from trimtab.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)
_PATIENCE = 5.0
_LONGEST_HEAD = 8192
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class TelemetryServer:
    """`healthy()` false makes /healthz answer 503, so the kubelet restarts the pod; `ready()` does the same for
    /readyz.

    While it runs it measures how late the event loop comes to its timers, every `lag_interval` seconds; None: another
    server does. `port` 0 takes a free one, see `address`.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        host: str,
        port: int,
        healthy: Callable[[], bool] = lambda: True,
        ready: Callable[[], bool] = lambda: True,
        lag_interval: float | None = 0.5,
    ) -> None:
        self._metrics = metrics
        self._host = host
        self._port = port
        self._healthy = healthy
        self._ready = ready
        self._lag_interval = lag_interval
        self._server: asyncio.Server | None = None
        self._lag: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on."""
        if self._server is None:
            raise RuntimeError("the server has not been started")
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=_LONGEST_HEAD)
        if self._lag_interval is not None:
            self._lag = asyncio.create_task(self._watch_lag(self._lag_interval), name="event-loop-lag")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._lag is not None:
            self._lag.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._lag
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._answer(head.split(b"\r\n", 1)[0].decode("latin-1"))
                lines = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}")
                writer.write("\r\n".join((*lines, "Connection: close", "", "")).encode() + body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that is slow, gone or not speaking HTTP gets nothing
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, request_line: str) -> tuple[str, str, bytes]:
        method, _, rest = request_line.partition(" ")
        path = rest.split(" ", 1)[0].split("?", 1)[0]
        if method != "GET":
            return "405 Method Not Allowed", _TEXT, b"only GET is served\n"
        if path == "/metrics":
            return "200 OK", _TEXT, self._metrics.exposition()
        if path in ("/healthz", "/readyz"):
            fine = self._healthy() if path == "/healthz" else self._ready()
            return ("200 OK", _TEXT, b"ok\n") if fine else ("503 Service Unavailable", _TEXT, b"not ok\n")
        return "404 Not Found", _TEXT, b"not found\n"

    async def _watch_lag(self, interval: float) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(interval)
            self._metrics.lagged(max(0.0, time.perf_counter() - began - interval))

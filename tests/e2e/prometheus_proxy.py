"""A Prometheus that misbehaves on demand: it passes queries on to a real one, until it is told to do otherwise.

    python3 prometheus_proxy.py http://prometheus:9090 [--port 9090] [--control-port 9091]

`POST /mode {"mode": "slow"}` on the control port changes what happens to queries:

    pass     the real answer
    refused  nothing listens
    slow     the real answer, after 30 s
    hangs    no answer at all
    error    status 500
    html     a page of HTML with status 200, as a login page of a proxy in between
    huge     40 MiB of a valid answer
    nan      the real answer, with every value NaN
    infinite the real answer, with every value +Inf
    empty    a valid answer with an empty vector
    several  the real answer, with every series twice under different labels, as from two replicas

`GET /state` tells the mode and how many queries came in it. It needs aiohttp and nothing of this repository, so that it
runs in any pod with that. In a test's own process `at` gives the time that instant queries are evaluated at, in seconds
since the epoch, so that a test may have a clock of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

MODES = ("pass", "refused", "slow", "hangs", "error", "html", "huge", "nan", "infinite", "empty", "several")
SLOW_SECONDS = 30.0
_HUGE = 40 * 1024 * 1024
_HOP_BY_HOP = {"transfer-encoding", "content-encoding", "content-length", "connection", "keep-alive"}


def with_value(document: Any, value: str) -> Any:
    """A Prometheus answer with every value this one, e.g. NaN."""
    for series in (document.get("data") or {}).get("result") or []:
        if "value" in series:
            series["value"][1] = value
        for point in series.get("values", []):
            point[1] = value
    return document


def doubled(document: Any) -> Any:
    """A Prometheus answer in which every series is there twice, told apart by a label."""
    data = document.get("data") or {}
    result = [
        {**series, "metric": {**series.get("metric", {}), "prometheus_replica": replica}}
        for series in data.get("result") or []
        for replica in ("a", "b")
    ]
    return {**document, "data": {**data, "result": result}}


def emptied(document: Any) -> Any:
    """A Prometheus answer without any series."""
    return {**document, "data": {**(document.get("data") or {}), "result": []}}


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "nan": lambda document: with_value(document, "NaN"),
    "infinite": lambda document: with_value(document, "+Inf"),
    "empty": emptied,
    "several": doubled,
}


class Proxy:
    """The data port and the control port over one mode."""

    def __init__(
        self, upstream: str, port: int, *, host: str = "0.0.0.0", at: Callable[[], float] | None = None
    ) -> None:
        self._upstream = upstream.rstrip("/")
        self._host, self.port = host, port
        self._at = at
        self._site: web.TCPSite | None = None
        self._session: aiohttp.ClientSession | None = None
        self.mode = "pass"
        self.queries = 0

    async def run(self, control_port: int) -> None:
        """Serves for ever."""
        await self.start()
        control = web.Application()
        control.router.add_get("/state", self._state)
        control.router.add_post("/mode", self._change)
        controlling = web.AppRunner(control, access_log=None)
        await controlling.setup()
        await web.TCPSite(controlling, self._host, control_port).start()
        print("ready", flush=True)
        await asyncio.Event().wait()

    async def start(self) -> None:
        """The data port alone, in mode `pass`."""
        data = web.Application()
        data.router.add_route("*", "/{path:.*}", self._query)
        self._data = web.AppRunner(data, access_log=None, shutdown_timeout=0.1)
        await self._data.setup()
        self._session = aiohttp.ClientSession(auto_decompress=True)
        await self._open()

    async def stop(self) -> None:
        """The data port closes, with its connections."""
        await self._close()
        await self._data.cleanup()
        if self._session is not None:
            await self._session.close()

    async def switch(self, mode: str) -> None:
        """Another mode from now on."""
        await (self._close() if mode == "refused" else self._open())
        self.mode, self.queries = mode, 0

    async def _open(self) -> None:
        if self._site is None:
            self._site = web.TCPSite(self._data, self._host, self.port)
            await self._site.start()
            self.port = self._data.addresses[0][1]  # a free one where 0 was asked for

    async def _close(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
            for connection in list(self._data.server.connections if self._data.server else []):
                connection.close()

    async def _change(self, request: web.Request) -> web.Response:
        mode = str((await request.json()).get("mode"))
        if mode not in MODES:
            return web.json_response({"error": f"mode is one of {', '.join(MODES)}"}, status=400)
        await self.switch(mode)
        return await self._state(request)

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response({"mode": self.mode, "queries": self.queries})

    async def _query(self, request: web.Request) -> web.Response:
        self.queries += 1
        mode = self.mode
        if mode == "html":
            page = "<!doctype html><html><body><h1>Please sign in</h1></body></html>"
            return web.Response(text=page, content_type="text/html")
        if mode == "error":
            return web.Response(status=500, text="out of memory")
        if mode == "huge":
            return web.Response(body=_a_huge_answer(), content_type="application/json")
        if mode in ("slow", "hangs"):
            await asyncio.sleep(SLOW_SECONDS if mode == "slow" else 3600.0)
        assert self._session is not None
        body = await request.read()
        if self._at is not None and request.path.endswith("/query"):
            body += f"&time={self._at():.3f}".encode()
        headers = {name: value for name, value in request.headers.items() if name.lower() in {"content-type", "accept"}}
        url = self._upstream + request.path_qs
        async with self._session.request(request.method, url, data=body or None, headers=headers) as answer:
            text = await answer.read()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        if (change := _CHANGES.get(mode)) and "json" in kept.get("Content-Type", ""):
            text = json.dumps(change(json.loads(text))).encode()
        return web.Response(status=answer.status, body=text, headers=kept)


def _a_huge_answer() -> bytes:
    series = json.dumps({"metric": {"pod": "x" * 1000}, "value": [0, "1"]})
    return (
        '{"status":"success","data":{"resultType":"vector","result":['
        + ",".join([series] * (_HUGE // len(series)))
        + "]}}"
    ).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="A Prometheus that misbehaves on demand.")
    parser.add_argument("upstream")
    parser.add_argument("--port", type=int, default=9090)
    parser.add_argument("--control-port", type=int, default=9091)
    options = parser.parse_args()
    asyncio.run(Proxy(options.upstream, options.port).run(options.control_port))


if __name__ == "__main__":
    main()

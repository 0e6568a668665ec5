"""A Prometheus that misbehaves on demand: it passes queries on to a real one, until it is told to do otherwise.

    python3 prometheus_proxy.py http://prometheus:9090 [--port 9090] [--control-port 9091]

`POST /mode {"mode": "slow"}` on the control port changes what happens to queries:

    pass     the real answer
    refused  nothing listens
    slow     the real answer, after 30 s
    html     a page of HTML with status 200, as a login page of a proxy in between
    nan      the real answer, with every value NaN
    empty    a valid answer with an empty vector

`GET /state` tells the mode and how many queries came in it. It needs aiohttp and nothing of this repository, so that it
runs in any pod with that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

MODES = ("pass", "refused", "slow", "html", "nan", "empty")
SLOW_SECONDS = 30.0
_HOP_BY_HOP = {"transfer-encoding", "content-encoding", "content-length", "connection", "keep-alive"}


def with_nan(document: Any) -> Any:
    """A Prometheus answer with every value NaN."""
    for series in (document.get("data") or {}).get("result") or []:
        if "value" in series:
            series["value"][1] = "NaN"
        for point in series.get("values", []):
            point[1] = "NaN"
    return document


def emptied(document: Any) -> Any:
    """A Prometheus answer without any series."""
    return {**document, "data": {**(document.get("data") or {}), "result": []}}


_CHANGES: dict[str, Callable[[Any], Any]] = {"nan": with_nan, "empty": emptied}


class Proxy:
    """The data port and the control port over one mode."""

    def __init__(self, upstream: str, port: int) -> None:
        self._upstream = upstream.rstrip("/")
        self._port = port
        self._site: web.TCPSite | None = None
        self._session: aiohttp.ClientSession | None = None
        self.mode = "pass"
        self.queries = 0

    async def run(self, control_port: int) -> None:
        """Serves for ever."""
        data = web.Application()
        data.router.add_route("*", "/{path:.*}", self._query)
        self._data = web.AppRunner(data, access_log=None, shutdown_timeout=0.1)
        await self._data.setup()
        control = web.Application()
        control.router.add_get("/state", self._state)
        control.router.add_post("/mode", self._change)
        controlling = web.AppRunner(control, access_log=None)
        await controlling.setup()
        async with aiohttp.ClientSession(auto_decompress=True) as session:
            self._session = session
            await self._open()
            await web.TCPSite(controlling, "0.0.0.0", control_port).start()
            print("ready", flush=True)
            await asyncio.Event().wait()

    async def _open(self) -> None:
        if self._site is None:
            self._site = web.TCPSite(self._data, "0.0.0.0", self._port)
            await self._site.start()

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
        await (self._close() if mode == "refused" else self._open())
        self.mode, self.queries = mode, 0
        return await self._state(request)

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response({"mode": self.mode, "queries": self.queries})

    async def _query(self, request: web.Request) -> web.Response:
        self.queries += 1
        mode = self.mode
        if mode == "html":
            page = "<!doctype html><html><body><h1>Please sign in</h1></body></html>"
            return web.Response(text=page, content_type="text/html")
        if mode == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        assert self._session is not None
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() in {"content-type", "accept"}}
        url = self._upstream + request.path_qs
        async with self._session.request(request.method, url, data=body or None, headers=headers) as answer:
            text = await answer.read()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        if (change := _CHANGES.get(mode)) and "json" in kept.get("Content-Type", ""):
            text = json.dumps(change(json.loads(text))).encode()
        return web.Response(status=answer.status, body=text, headers=kept)


def main() -> None:
    parser = argparse.ArgumentParser(description="A Prometheus that misbehaves on demand.")
    parser.add_argument("upstream")
    parser.add_argument("--port", type=int, default=9090)
    parser.add_argument("--control-port", type=int, default=9091)
    options = parser.parse_args()
    asyncio.run(Proxy(options.upstream, options.port).run(options.control_port))


if __name__ == "__main__":
    main()

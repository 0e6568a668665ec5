"""A proxy before the real API server that follows a script: plain HTTP to the operator, TLS to the server.

It authenticates as the administrator of the tests' own control plane, whoever asks. Existing fault proxies work on
connections or on plain HTTP (toxiproxy, mitmproxy); what is needed here is knowledge of verbs, resources, committed
writes and watch events, so it is small and ours, on aiohttp.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import web

from tests.fault.control_plane import ControlPlane
from tests.fault.script import Call, Fault, Kind, Script, call_of

_KEPT = ("Content-Type", "Accept")
_WATCHES = (Kind.SILENT, Kind.EXPIRED, Kind.CUT, Kind.TWICE, Kind.WITHOUT, Kind.REVERSED, Kind.BOOKMARKS)


class ApiProxy:
    """`on_stop(call)` is called for the faults STOP and STOP_AFTER, in the proxy's thread."""

    def __init__(self, plane: ControlPlane, script: Script) -> None:
        self.script = script
        self.on_stop: Callable[[Call], None] = lambda call: None
        self._plane = plane
        self._before: dict[str, bytes] = {}  # the answer to each read, before the last write
        self._latest: dict[str, bytes] = {}
        self.url = ""

    async def start(self) -> None:
        """Listens on a free port of 127.0.0.1."""
        connector = aiohttp.TCPConnector(ssl=self._plane.tls(), limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = call_of(request.method, request.path_qs, request.headers.get("Content-Type", ""))
        fault = self.script.fault_of(call)
        if call.verb == "watch":
            return await self._watch(request, fault)
        body = await request.read()
        if fault is not None and (answer := await self._instead(request, call, fault)) is not None:
            return answer
        status, kind, data = await self._send(request, body)
        if fault is not None and fault.kind is Kind.DUPLICATE:
            status, kind, data = await self._send(request, body)
        if fault is not None and fault.kind in (Kind.LOSE, Kind.STOP_AFTER):
            if fault.kind is Kind.STOP_AFTER:
                self.on_stop(call)
            return _hang_up(request)
        if call.is_write and status < 300:
            self._before |= self._latest
        elif call.verb in ("get", "list"):
            self._latest[request.path_qs] = data
            self._before.setdefault(request.path_qs, data)
        return web.Response(status=status, body=data, content_type=kind)

    async def _instead(self, request: web.Request, call: Call, fault: Fault) -> web.StreamResponse | None:
        """The answer of a fault that keeps the request from the API server; None for one that does not."""
        match fault.kind:
            case Kind.STATUS:
                return _refusal(fault)
            case Kind.DROP:
                return _hang_up(request)
            case Kind.STOP:
                self.on_stop(call)
                return _hang_up(request)
            case Kind.DELAY:
                await asyncio.sleep(fault.seconds)
            case Kind.STALE if request.path_qs in self._before:
                return web.Response(body=self._before[request.path_qs], content_type="application/json")
            case _:
                pass
        return None

    async def _send(self, request: web.Request, body: bytes) -> tuple[int, str, bytes]:
        headers = {name: request.headers[name] for name in _KEPT if name in request.headers}
        url = self._plane.url + request.path_qs
        async with self._session.request(request.method, url, data=body or None, headers=headers) as answer:
            return answer.status, answer.content_type, await answer.read()

    async def _watch(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        if fault is not None and fault.kind not in _WATCHES:
            instead = await self._instead(request, call_of("GET", request.path_qs), fault)
            if instead is not None:
                return instead
            fault = None
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if fault is not None and fault.kind is Kind.SILENT:
            await asyncio.sleep(3600)
        if fault is not None and fault.kind is Kind.EXPIRED:
            gone = {"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "status": "Failure"}
            await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return response
        headers = {"Accept": request.headers.get("Accept", "application/json")}
        async with self._session.get(self._plane.url + request.path_qs, headers=headers) as answer:
            events = answer.content if fault is None else _spoilt(answer.content, fault)
            async for line in events:
                await response.write(line)
        return response


async def _spoilt(lines: Any, fault: Fault) -> AsyncIterator[bytes]:
    """Watch events, one a line, as the fault changes them."""
    held: bytes | None = None
    async for line in lines:
        kind = json.loads(line).get("type")
        match fault.kind:
            case Kind.CUT:
                yield line
                return
            case Kind.TWICE if kind == "ADDED":
                yield line
                yield line
            case Kind.TWICE if kind == "MODIFIED":
                yield line
                yield line.replace(b'"MODIFIED"', b'"ADDED"', 1)
            case Kind.WITHOUT if kind == fault.reason:
                continue
            case Kind.BOOKMARKS if kind != "BOOKMARK":
                continue
            case Kind.REVERSED if kind in ("MODIFIED", "DELETED"):
                if held is None:
                    held = line
                    continue
                yield line
                yield held
                held = None
            case _:
                yield line


def _refusal(fault: Fault) -> web.Response:
    reason = fault.reason or {409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests"}.get(
        fault.status, "InternalError"
    )
    document = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": f"the script says {fault.status} {reason}",
        "reason": reason,
        "code": fault.status,
    }
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return web.json_response(document, status=fault.status, headers=headers)


def _hang_up(request: web.Request) -> web.Response:
    """Closes the connection without a word."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)

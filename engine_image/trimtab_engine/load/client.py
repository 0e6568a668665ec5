"""Sends one request, reads its stream to the end and says what became of it. It never tries twice."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from trimtab_engine.load.safety import ForbiddenTargetError, PrivateResolver
from trimtab_engine.load.workload import Ask


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where and how to ask. Times in seconds."""

    url: str
    model: str
    chat: bool = False
    ignore_eos: bool = True
    temperature: float | None = None
    timeout: float = 300.0
    connect_timeout: float = 10.0
    keep_alive: bool = False
    pod_header: str = "x-pod-name"
    api_key: str | None = None
    stream: bool = True
    keep_text: bool = False

    def body(self, ask: Ask) -> dict[str, Any]:
        """The JSON of one request."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": ask.output_tokens,
        }
        if self.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        if self.chat:
            body["messages"] = [{"role": "user", "content": ask.prompt}]
        else:
            body["prompt"] = ask.prompt
        if self.ignore_eos:
            body["ignore_eos"] = True
        if self.temperature is not None:
            body["temperature"] = self.temperature
        return body


@dataclass(kw_only=True)
class Result:
    """What became of a request. `reason` is None for a success."""

    reason: str | None = None
    detail: str = ""
    status: int | None = None
    pod: str | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    ttft: float | None = None
    text: str = ""
    finish: str = ""  # why the engine says that the answer ended


# Called for every event with text: tokens, seconds since the one before, seconds since the request left (first only).
OnTokens = Callable[[int, float | None, float | None], None]


class BrokenStreamError(Exception):
    """The answer came, but not whole."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def open_session(target: Target) -> aiohttp.ClientSession:
    """A session without environment proxies; without keep-alive every request opens a new connection."""
    if target.keep_alive:
        connector = aiohttp.TCPConnector(limit=0, resolver=PrivateResolver())
    else:
        connector = aiohttp.TCPConnector(
            limit=0, force_close=True, enable_cleanup_closed=False, resolver=PrivateResolver()
        )
    timeout = aiohttp.ClientTimeout(total=target.timeout, sock_connect=target.connect_timeout)
    headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False, headers=headers)


async def send(session: aiohttp.ClientSession, target: Target, ask: Ask, on_tokens: OnTokens) -> Result:
    """One request from the first byte out to the last byte in; failures are results, not exceptions."""
    path = "/chat/completions" if target.chat else "/completions"
    result = Result()
    began = time.perf_counter()
    try:
        async with session.post(target.url + path, json=target.body(ask), allow_redirects=False) as response:
            result.status = response.status
            result.pod = response.headers.get(target.pod_header)
            if response.status != 200:
                detail = (await response.content.read(500)).decode(errors="replace")
                raise BrokenStreamError(f"http_{response.status}", detail)
            if target.stream:
                await _read(response, result, on_tokens, began)
                if target.keep_alive:
                    await _read_on(response)
            else:
                await _read_whole(response, result, on_tokens)
        if target.ignore_eos and result.output_tokens < ask.output_tokens:
            raise BrokenStreamError("too_few_tokens", f"{result.output_tokens} of {ask.output_tokens}")
    except BrokenStreamError as broken:
        result.reason, result.detail = broken.reason, broken.detail
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        result.reason = _reason(error, streaming=result.status is not None)
        result.detail = f"{type(error).__name__}: {error}"[:300]
    except asyncio.CancelledError:
        result.reason = "abandoned"
    result.seconds = time.perf_counter() - began
    if not target.keep_text:
        result.text = ""
    return result


async def _read_whole(response: aiohttp.ClientResponse, result: Result, on_tokens: OnTokens) -> None:
    """Reads an answer that comes at once."""
    _take(await response.content.read(), result)
    on_tokens(result.output_tokens, None, None)


async def _read(response: aiohttp.ClientResponse, result: Result, on_tokens: OnTokens, began: float) -> None:
    """Reads server-sent events until `[DONE]`, or, from servers that do not send it, to the end of the body behind a
    finish reason.

    A server that falls behind sends several tokens in one event; the running usage in it says how many. They count as
    so many tokens and as one gap. What no event accounted for is counted at the end.
    """
    pending = b""
    last: float | None = None
    counted = 0
    while True:
        piece = await response.content.readany()
        if not piece:
            if result.finish and not pending:
                return _count_rest(result, counted, on_tokens)
            raise BrokenStreamError("stream_ended_early", f"after {counted} tokens")
        now = time.perf_counter()
        *events, pending = (pending + piece).split(b"\n\n")
        for event in events:
            if not event.startswith(b"data: "):
                continue
            if event == b"data: [DONE]":
                return _count_rest(result, counted, on_tokens)
            if not _take(event[6:], result):
                continue
            fresh = max(1, result.output_tokens - counted)
            counted += fresh
            if last is None:
                result.ttft = now - began
                on_tokens(fresh, None, result.ttft)
            else:
                on_tokens(fresh, now - last, None)
            last = now


def _count_rest(result: Result, counted: int, on_tokens: OnTokens) -> None:
    if result.output_tokens > counted:
        on_tokens(result.output_tokens - counted, None, None)
    result.output_tokens = max(result.output_tokens, counted)


async def _read_on(response: aiohttp.ClientResponse) -> None:
    """Reads what follows `[DONE]`, the end of the body: a connection is used again only after it."""
    with contextlib.suppress(aiohttp.ClientError):  # the answer is whole
        await response.read()


def _take(event: bytes, result: Result) -> bool:
    """Reads one event; True when it brought text."""
    try:
        data = json.loads(event)
    except ValueError as error:
        raise BrokenStreamError("bad_event", str(error)) from error
    if "error" in data:
        raise BrokenStreamError("error_in_stream", json.dumps(data["error"])[:300])
    if usage := data.get("usage"):
        result.prompt_tokens = usage.get("prompt_tokens") or 0
        result.output_tokens = usage.get("completion_tokens") or 0
    choices = data.get("choices") or []
    for choice in choices:
        result.finish = str(choice.get("finish_reason") or result.finish)
    texts = [_text_of(choice) for choice in choices]
    result.text += "".join(texts)
    return any(texts)


def _text_of(choice: dict[str, Any]) -> str:
    """The text of a choice of any of the API's answers."""
    inner = choice.get("delta") or choice.get("message") or {}
    return str(choice.get("text") or inner.get("content") or "")


def _reason(error: Exception, *, streaming: bool) -> str:
    """A short name for a failure of the transport."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connect_timeout"
    if isinstance(error, TimeoutError):
        return "timeout"
    causes = [error, getattr(error, "os_error", None), error.__cause__]
    if any(isinstance(cause, ForbiddenTargetError) for cause in causes):
        return "forbidden_target"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if streaming:
        return "stream_reset"
    numbers = {getattr(cause, "errno", None) for cause in causes if cause is not None}
    if errno.ECONNREFUSED in numbers:
        return "connect_refused"
    if numbers & {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        return "unreachable"
    return "connect_reset"

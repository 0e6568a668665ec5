"""Everything that a Prometheus can answer instead of an answer, from a real HTTP server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from tests.testkit.ports import free_port
from trimtab.model.reading import Unknown, Why
from trimtab.observe import gather
from trimtab.observe.gather import Target, read_metrics
from trimtab.observe.http import Limits
from trimtab.observe.prometheus import Prometheus

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SMALL = Limits(in_flight=2, max_bytes=1_000_000)
QUICK = replace(SMALL, read_timeout=0.4, deadline=1.0)  # for what never comes
TARGET = Target(namespace="n", name="d", engine="vllm", version="0.32.0", pods=("p",))


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application(client_max_size=10_000_000)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def vector(*items: dict[str, Any]) -> web.Response:
    return web.json_response({"status": "success", "data": {"resultType": "vector", "result": list(items)}})


async def html(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html><body>Sign in</body></html>", content_type="text/html")


async def unavailable(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text="try later")


async def wrong_shape(_: web.Request) -> web.StreamResponse:
    return web.json_response({"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}})


async def a_list(_: web.Request) -> web.StreamResponse:
    return web.json_response([1, 2, 3])


async def no_number(_: web.Request) -> web.StreamResponse:
    return vector({"metric": {"namespace": "n", "pod": "p"}, "value": [0, "many"]})


async def truncated(_: web.Request) -> web.StreamResponse:
    whole = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}})
    return web.Response(text=whole[:-9], content_type="application/json")


async def huge(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(OSError):
        for _ in range(100):
            await answer.write(b" " * 100_000)
    return answer


async def breaks_off(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'{"status":')
    assert request.transport is not None
    request.transport.close()
    return answer


async def slow(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return vector()


async def drips(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(OSError):
        for _ in range(300):
            await answer.write(b" ")
            await asyncio.sleep(0.1)
    return answer


async def empty(_: web.Request) -> web.StreamResponse:
    return vector()


async def not_a_number(_: web.Request) -> web.StreamResponse:
    readings = ("age", "scrapes", "up", "finished", "running")
    return vector(
        *({"metric": {"namespace": "n", "pod": "p", "reading": reading}, "value": [0, "NaN"]} for reading in readings)
    )


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (html, Why.BAD_ANSWER),
        (unavailable, Why.BAD_ANSWER),
        (wrong_shape, Why.BAD_ANSWER),
        (a_list, Why.BAD_ANSWER),
        (no_number, Why.BAD_ANSWER),
        (truncated, Why.BAD_ANSWER),
        (huge, Why.BAD_ANSWER),
        (breaks_off, Why.BAD_ANSWER),
        (slow, Why.TIMEOUT),
        (drips, Why.TIMEOUT),
        (empty, Why.NOT_SCRAPED),
        (not_a_number, Why.NOT_A_NUMBER),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_what_is_not_an_answer_is_unknown_with_its_reason(handler: Handler, why: Why) -> None:
    limits = QUICK if why is Why.TIMEOUT else SMALL
    async with serving(handler) as url, Prometheus(url, limits=limits) as client:
        got = (await read_metrics(client, [TARGET], window=60, now=time.time()))["n", "d"]
    assert isinstance(got.overall, Unknown)
    assert got.overall.why is why
    assert got.overall.message.endswith(".")
    pod = got.pod("p")
    for reading in (pod.ttft, pod.request_rate, pod.error_rate, pod.running, pod.kv_usage, pod.kv_capacity_tokens):
        assert isinstance(reading, Unknown)
        assert reading.why is why


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with Prometheus(f"http://127.0.0.1:{free_port()}", limits=SMALL) as client:
        got = await client.query("up")
    assert isinstance(got, Unknown)
    assert got.why is Why.UNREACHABLE


async def test_a_redirect_is_not_followed() -> None:
    visited: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        visited.append(request.path)
        return vector()

    async with serving(elsewhere) as other:

        async def redirect(_: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{other}/stolen")

        async with serving(redirect) as url, Prometheus(url, limits=SMALL) as client:
            got = await client.query("up")
    assert isinstance(got, Unknown)
    assert got.why is Why.BAD_ANSWER
    assert visited == []


async def test_what_the_server_said_is_not_repeated() -> None:
    async def reveals(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500, text="password=hunter2")

    async with serving(reveals) as url, Prometheus(url, limits=SMALL) as client:
        got = await client.query("up")
    assert isinstance(got, Unknown)
    assert "hunter2" not in got.message


async def test_no_more_queries_are_in_flight_than_allowed_and_all_are_answered() -> None:
    now = most = 0

    async def counted(_: web.Request) -> web.StreamResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return vector()

    limits = Limits(in_flight=3)
    async with serving(counted) as url, Prometheus(url, limits=limits) as client:
        answers = await asyncio.gather(*(client.query("up") for _ in range(30)))
    assert answers == [()] * 30
    assert most == 3


async def test_a_query_that_gets_no_turn_in_time_is_not_sent() -> None:
    arrived, may_answer = 0, asyncio.Event()

    async def stuck(_: web.Request) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        await may_answer.wait()
        return vector()

    limits = Limits(in_flight=2, read_timeout=60.0, deadline=60.0, queue=0.2)
    async with serving(stuck) as url, Prometheus(url, limits=limits) as client:
        asked = [asyncio.create_task(client.query("up")) for _ in range(12)]
        while sum(task.done() for task in asked) < 10:
            await asyncio.wait(asked, timeout=0.05)
        assert arrived == 2
        may_answer.set()
        answers = await asyncio.gather(*asked)
    assert answers.count(()) == 2
    assert sum(isinstance(answer, Unknown) and answer.why is Why.TIMEOUT for answer in answers) == 10


async def test_a_sick_server_is_asked_once_for_each_hundred_pods() -> None:
    asked = 0

    async def broken(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=500)

    pods = tuple(f"p{n}" for n in range(2 * gather._PODS_PER_QUERY))
    many = Target(namespace="n", name="d", engine="vllm", version="0.32.0", pods=pods)
    async with serving(broken) as url, Prometheus(url, limits=SMALL) as client:
        got = (await read_metrics(client, [many], window=60, now=time.time()))["n", "d"]
    assert isinstance(got.overall, Unknown)
    assert asked == 2


async def test_outcomes_are_reported_for_the_operators_own_metrics() -> None:
    outcomes: list[str] = []
    async with (
        serving(unavailable) as url,
        Prometheus(url, limits=SMALL, on_query=lambda _, outcome: outcomes.append(outcome)) as client,
    ):
        await client.query("up")
    assert outcomes == [Why.BAD_ANSWER.value]


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "127.0.0.1:9090", "http://", "http://user:word@host/", "ftp://h"]
)
def test_an_address_that_is_not_plain_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Prometheus(url)

"""Connections to our own server as it runs: kept, shared by many requests, held back where a client reads slowly."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.testkit.running import OurServer
from trimtab_engine.config.load import load
from trimtab_engine.serve import environment_of

EMULATOR = {"EMULATOR_SPEED": "50"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurServer]:
    fields = {"server.keep_alive_seconds": 3600, "engines.pytorch.running_requests": 64}
    with OurServer(folder=tmp_path_factory.mktemp("connections"), fields=fields, env=EMULATOR) as one:
        yield one


class Connections:
    """What aiohttp's pool did."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.trace = aiohttp.TraceConfig()
        self.trace.on_connection_create_end.append(self._count("made"))
        self.trace.on_connection_reuseconn.append(self._count("reused"))

    def _count(self, what: str) -> Any:
        async def count(*_: object) -> None:
            self.seen[what] += 1

        return count


def body(tokens: int, *, stream: bool = False) -> dict[str, object]:
    return {"prompt": "Once upon a time", "max_tokens": tokens, "stream": stream}


async def test_one_connection_carries_one_request_after_the_other(server: OurServer) -> None:
    """Answers whole, as streams, refused and not there: after each of them the connection is as good as before."""
    connections = Connections()
    async with aiohttp.ClientSession(server.url, trace_configs=[connections.trace]) as session:
        for number in range(40):
            kinds: list[dict[str, object]] = [body(4), body(4, stream=True), {"prompt": 7}, {"model": "x", **body(1)}]
            asked = kinds[number % 4]
            async with session.post("/v1/completions", json=asked) as answer:
                assert answer.status == (200, 200, 400, 404)[number % 4]
                await answer.read()
            async with session.get("/nowhere") as answer:
                assert answer.status == 404
                await answer.read()
    assert connections.seen == {"made": 1, "reused": 79}


async def test_a_pool_of_connections_serves_many_more_requests_than_it_has(server: OurServer) -> None:
    connections = Connections()
    connector = aiohttp.TCPConnector(limit=8)
    async with aiohttp.ClientSession(server.url, connector=connector, trace_configs=[connections.trace]) as session:

        async def one(number: int) -> int:
            async with session.post("/v1/completions", json=body(2 + number % 7, stream=bool(number % 2))) as answer:
                await answer.read()
                return answer.status

        assert set(await asyncio.gather(*(one(number) for number in range(200)))) == {200}
    assert connections.seen["made"] <= 8
    assert connections.seen["made"] + connections.seen["reused"] == 200


def test_an_idle_connection_is_closed_after_the_time_that_is_configured(tmp_path: Path) -> None:
    with OurServer(folder=tmp_path, fields={"server.keep_alive_seconds": 1}, env=EMULATOR) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        connection.sock.settimeout(30)
        assert connection.sock.recv(1) == b""  # the server's end of it; without one, the time-out fails the test
        connection.close()


def test_a_client_that_asks_for_it_gets_its_connection_closed(server: OurServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/health", headers={"connection": "close"})
    answer = connection.getresponse()
    assert answer.getheader("connection") == "close"
    assert json.loads(answer.read())["status"] == "ok"
    connection.close()


def test_vllm_keeps_idle_connections_as_long_unless_its_own_variable_is_set(tmp_path: Any) -> None:
    config = load(None, {}, {"model": "m", "server.keep_alive_seconds": 33})
    assert environment_of(config, tmp_path, {})["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == "33"
    assert (
        environment_of(config, tmp_path, {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "7"})["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == "7"
    )


def test_few_kernels_are_kept_unless_somebody_says_how_many(tmp_path: Any) -> None:
    config = load(None, {}, {"model": "m"})
    assert environment_of(config, tmp_path, {})["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "128"
    given = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "HOME": "/tmp"}
    assert environment_of(config, tmp_path, given).items() >= given.items()


def test_a_client_that_reads_slowly_holds_back_its_own_stream_and_nothing_is_lost(server: OurServer) -> None:
    """Its windows are made small, so that the server cannot write ahead of it for long."""
    asked = json.dumps(body(1500, stream=True)).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        client.settimeout(60)
        client.connect(("127.0.0.1", server.port))
        head = f"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(asked)}\r\n\r\n"
        client.sendall(head.encode() + asked)
        # Others are answered while this one does not read; one of the same length tells that all has been made.
        assert server.post("/v1/completions", body(1500))["usage"]["completion_tokens"] == 1500
        got = b""
        while b"data: [DONE]" not in got:
            piece = client.recv(65536)
            assert piece, "the stream ended early"
            got += piece
    events = [json.loads(line[6:]) for line in got.split(b"\n") if line.startswith(b"data: {")]
    assert len("".join(event["choices"][0]["text"] for event in events)) == 1500
    assert events[-1]["choices"][0]["finish_reason"] == "length"

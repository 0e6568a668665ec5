"""Requests that nobody would think of, to our own server as it runs: uvicorn, gate, API, and the emulated engine.

What comes back is in the OpenAPI document that the server gives of itself: never a 500, never anything but JSON, errors
in the shape that clients of OpenAI's API know. The server is alive afterwards, and its log tells of no exception.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from tests.testkit.running import OurServer

TOKEN = "a-token-of-some-length"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
# A short context, so that answers of any length end soon, and steps that take no time.
EMULATOR = {"EMULATOR_PROFILE": json.dumps({"max_model_len": 128}), "EMULATOR_SPEED": "1000"}
COMPUTING = ("/v1/completions", "/v1/chat/completions")
CONFIGURE = "/v1/optimization/configure"


def repeatable(examples: int) -> settings:
    """The same examples each time. A body of a schema is not made smaller: that takes minutes."""
    calm = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        suppress_health_check=calm,
        phases=[Phase.generate],
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurServer]:
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "token").write_text(TOKEN)
    fields = {
        "server.token_file": str(folder / "token"),
        "server.request_timeout_seconds": 20,
        "server.largest_body_bytes": 65536,
        "alerts.enabled": True,
        "tuner.enabled": True,
        "tuner.itl_p95_seconds": 1,
    }
    with OurServer(folder=folder / "run", fields=fields, env=EMULATOR) as one:
        yield one
        health = json.loads(one.get("/health"))
        assert health["engine"] == "pytorch"
        assert one.process.poll() is None
        said = one.post("/v1/completions", {"prompt": "Are you there?", "max_tokens": 2})
        assert said["usage"]["completion_tokens"] == 2
        log = one.log.read_text(errors="replace")
        assert "Traceback" not in log and "Exception" not in log


@pytest.fixture(scope="module")
def api(server: OurServer) -> Any:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    schema.config.output.sanitization.update(enabled=False)
    return schema


OPERATIONS = (
    ("/v1/completions", "post"),
    ("/v1/chat/completions", "post"),
    ("/v1/models", "get"),
    ("/health", "get"),
    ("/metrics", "get"),
    ("/v1/optimization/status", "get"),
    ("/v1/optimization/metrics", "get"),
    ("/v1/optimization/report", "get"),
    ("/v1/optimization/tuner", "get"),
    ("/v1/optimization/alerts", "get"),
    ("/v1/optimization/configure", "post"),
    ("/v1/optimization/start", "post"),
    ("/v1/optimization/stop", "post"),
    ("/v1/optimization/reset_prefix_cache", "post"),
    ("/v1/conversations/{conversation_id}", "delete"),
)


def test_every_endpoint_of_the_document_is_tried(api: Any) -> None:
    assert {(path, method) for path in api for method in api[path]} == set(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_the_document_allows_is_answered_as_it_says(api: Any, path: str, method: str) -> None:
    _holds(api[path][method.upper()], GenerationMode.POSITIVE, examples=100 if path in (*COMPUTING, CONFIGURE) else 5)


@pytest.mark.parametrize("path", [*COMPUTING, CONFIGURE])
def test_what_the_document_forbids_is_refused_as_it_says(api: Any, path: str) -> None:
    _holds(api[path]["POST"], GenerationMode.NEGATIVE, examples=100)


def _holds(operation: Any, mode: GenerationMode, *, examples: int) -> None:
    @repeatable(examples)
    @given(operation.as_strategy(generation_mode=mode))
    def one(case: schemathesis.Case[Any]) -> None:
        # What a schema allows may still be refused: a prompt longer than the context, limits that do not go together.
        case.call_and_validate(headers=HEADERS, excluded_checks=[checks.positive_data_acceptance], timeout=60)

    one()


WHOLE = (
    b'{"prompt": "Once", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "limits": {}, "stop": "x"}'
)
ABSURD = (
    *("-1", "0", "1e999", "-1e999", "NaN", "1" + 400 * "0", "null", "true", '""', "[]", "{}", '"\\ud800"'),
    *("[" * 5000 + "]" * 5000, '{"a":' * 2000 + "1" + "}" * 2000),
)
FIELDS = (
    *("prompt", "messages", "model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop"),
    *("stream", "stream_options", "n", "seed", "logprobs", "tools", "limits", "classes", "id", "user", "priority"),
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.integers(0, len(WHOLE)).map(lambda cut: WHOLE[:cut]),
    st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=3)).map(
        lambda change: WHOLE[: change[0]] + change[1] + WHOLE[change[0] + 1 :]
    ),
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(ABSURD), max_size=4).map(
        lambda fields: ("{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}").encode()
    ),
    st.sampled_from(
        [b"", b"null", b"[]", b"7", b'"text"', b"{" * 30_000, b"\xff\xfe", WHOLE.decode().encode("utf-16")]
    ),
)


@pytest.mark.parametrize("path", [*COMPUTING, CONFIGURE])
def test_any_bytes_as_a_body_are_answered_or_refused_with_an_error(server: OurServer, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    @repeatable(200)
    @given(BODIES)
    def one(body: bytes) -> None:
        connection.request("POST", path, body, {**HEADERS, "content-type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status in ({200, 400, 413} if path == CONFIGURE else {200, 400, 404, 413, 429})
        if answer.status != 200:
            error = json.loads(content)["error"]
            assert error["message"] and error["type"] and error["code"] == answer.status

    with contextlib.closing(connection):
        one()


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the beginning of TLS
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n{",
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b'POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n{"prompt":',  # and no more
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"GET /v1/%ff%00/../\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
    ids=lambda sent: f"{len(sent)} bytes",
)
def test_what_is_no_request_costs_its_connection_and_nothing_else(server: OurServer, sent: bytes) -> None:
    got = b""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as client,
        contextlib.suppress(BrokenPipeError, ConnectionResetError),
    ):
        client.sendall(sent)
        try:
            client.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the server has closed, before it had read everything
                raise
        got = client.recv(65536)
    assert not got or got.startswith(b"HTTP/1.1 4")
    assert json.loads(server.get("/v1/models"))["data"][0]["id"] == "m75"


def test_clients_that_vanish_in_the_middle_leave_nobody_behind(server: OurServer) -> None:
    body = json.dumps({"prompt": "Once", "max_tokens": 100, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(head + body)
            # Reset, as from a machine that has gone.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deadline = time.monotonic() + 30
    while json.loads(server.get("/v1/optimization/status"))["load"]["inside"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert json.loads(server.get("/v1/optimization/status"))["load"]["inside"] == 0

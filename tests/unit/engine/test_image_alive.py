"""The images' HEALTHCHECK, as the Dockerfiles say it, against our server and against what is wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.testkit.ports import free_port
from tests.testkit.running import OurServer
from trimtab_engine import main
from trimtab_engine.config.load import variable

IMAGES = Path(__file__).resolve().parents[3] / "engine_image"
DOCKERFILES = ["Dockerfile.cpu", "Dockerfile.gpu"]


def health_check(dockerfile: str) -> list[str]:
    """The arguments of `trimtab-engine` in it."""
    line = next(one for one in (IMAGES / dockerfile).read_text().splitlines() if one.startswith("HEALTHCHECK "))
    program, *arguments = json.loads(line.split(" CMD ", 1)[1])
    assert program == "trimtab-engine"
    return list(arguments)


@pytest.fixture(params=DOCKERFILES)
def check(request: pytest.FixtureRequest) -> list[str]:
    return health_check(request.param)


class Broken(BaseHTTPRequestHandler):
    """A server none of whose engines serves."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/health" else 200)
        self.end_headers()
        self.wfile.write(b'{"status":\n "down"}')

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def broken() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Broken)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurServer]:
    with OurServer(folder=tmp_path_factory.mktemp("alive"), env={"EMULATOR_SPEED": "50"}) as one:
        yield one


def test_a_server_that_serves_is_alive(server: OurServer, check: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable("server.port"), str(server.port))
    assert main.main([*check, "--timeout", "60"]) == 0


def test_an_engine_that_is_down_is_not(
    broken: int, check: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable("server.port"), str(broken))
    assert main.main(check) == 1
    assert capsys.readouterr().err == 'not alive: /health answers 503: {"status": "down"}\n'


def test_a_port_where_nothing_listens_is_not(check: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main.main([*check, "--port", str(port)]) == 1
    assert f"/health on port {port} does not answer: " in capsys.readouterr().err

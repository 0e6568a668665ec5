"""`trimtab-engine serve` with the emulator for its vLLM."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.testkit.client import MODEL_NAME, EngineClient
from tests.testkit.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


class Image(EngineClient):
    """The server, its settings file and its log in `folder`."""

    def __init__(self, folder: Path, *, model: str = MODEL_NAME, environment: Mapping[str, str] | None = None) -> None:
        self.model = model
        self.environment = dict(environment or {})
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = folder / "settings.json"
        self.log = folder / "engine.log"

    @contextlib.contextmanager
    def serving(self, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """While the server runs; it ends well when it is asked to."""
        with self.started(*flags) as process:
            try:
                until(lambda: self.answers(process), "the server answers")
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0, self.log.read_text(errors="replace")

    @contextlib.contextmanager
    def started(self, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """The process; what is left of it is killed."""
        parts = [str(ROOT / part) for part in ("", "engine_image", "tests/testkit/standin")]
        path = os.pathsep.join((*parts, *filter(None, [os.environ.get("PYTHONPATH")])))
        command = [sys.executable, "-m", "trimtab_engine.main", "serve", "--model", self.model, "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--settings-file", str(self.settings), "--"]
        command += ["--emulator-startup-seconds", "0", "--kv-cache-memory-bytes", "256M", *flags]
        environment = {**os.environ, **self.environment, "PYTHONPATH": path}
        with self.log.open("wb") as log:
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it answers; it must not have ended."""
        assert process.poll() is None, self.log.read_text(errors="replace")
        try:
            self.document("/health")
        except OSError:
            return False
        return True

    def document(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.loads(answer.read())

    def gauge(self, name: str) -> float:
        return self.gauges(name)[0]

    def gauges(self, *names: str) -> tuple[float, ...]:
        """Of one page, so at one time."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return tuple(
            sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))
            for name in names
        )

    def write(self, **settings: Any) -> None:
        draft = self.settings.with_name("draft")
        draft.write_text(json.dumps(settings))
        draft.replace(self.settings)

    def complete(self, tokens: int) -> int:
        """The status of one completion."""
        body = {"model": MODEL_NAME, "prompt": "x", "max_tokens": tokens, "ignore_eos": True}
        request = urllib.request.Request(
            self.url + "/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    @contextlib.contextmanager
    def asked_for_long_answers(self, requests: int) -> Iterator[None]:
        """While so many streams are open, of answers that would take longer than any test."""
        body = {"model": MODEL_NAME, "prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True}
        with contextlib.ExitStack() as open_connections:
            for _ in range(requests):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                open_connections.callback(connection.close)
                headers = {"content-type": "application/json"}
                connection.request("POST", "/v1/completions", json.dumps(body).encode(), headers)
            yield


def until(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, f"{what}: not within {seconds} s"
        time.sleep(0.05)

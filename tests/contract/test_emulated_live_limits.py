"""The emulator behind `trimtab-engine serve` takes settings as the image on real vLLM does (`tests/vllm`)."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.client import MODEL_NAME, EngineClient, free_port

pytestmark = pytest.mark.emulator

ROOT = Path(__file__).resolve().parents[2]


class Image(EngineClient):
    """`trimtab-engine serve` with the emulator for its vLLM."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = folder / "settings.json"
        self.log = folder / "engine.log"

    @contextlib.contextmanager
    def serving(self, *flags: str) -> Iterator[None]:
        path = os.pathsep.join(str(ROOT / part) for part in ("", "engine_image", "tests/testkit/standin"))
        command = [sys.executable, "-m", "trimtab_engine.main", "serve", "--model", MODEL_NAME, "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--settings-file", str(self.settings), "--"]
        command += ["--emulator-startup-seconds", "0", "--kv-cache-memory-bytes", "256M", *flags]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                until(lambda: self._answers(process), "the server answers")
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
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
        with urllib.request.urlopen(self.url + "/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))

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


def until(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, f"{what}: not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    image = Image(tmp_path_factory.mktemp("image"))
    with image.serving("--max-num-seqs", "8"):
        yield image


def test_settings_come_into_force_while_requests_run_and_none_is_lost(image: Image) -> None:
    assert image.gauge("trimtab_engine_settings_id") == 0
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(image.complete, 400) for _ in range(8)]
        until(lambda: image.gauge("vllm:num_requests_running") == 8, "eight run")
        image.write(id=41, limits={"max_running_requests": 2})
        until(lambda: image.gauge("trimtab_engine_settings_id") == 41, "the settings are in force")
        more = [pool.submit(image.complete, 40) for _ in range(8)]
        assert [task.result() for task in (*asked, *more)] == [200] * 16
    assert image.gauge("trimtab_engine_limits_revision_in_force") == image.gauge("trimtab_engine_limits_revision")


def test_fewer_run_at_once_once_the_limit_is_lower(image: Image) -> None:
    image.write(id=42, limits={"max_running_requests": 1})
    until(lambda: image.gauge("trimtab_engine_settings_id") == 42, "the settings are in force")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(image.complete, 100) for _ in range(3)]
        until(lambda: image.gauge("vllm:num_requests_waiting") == 2, "two wait")
        assert image.gauge("vllm:num_requests_running") == 1
        assert [task.result() for task in asked] == [200] * 3


def test_settings_that_cannot_be_change_nothing_and_are_shown(image: Image) -> None:
    image.write(id=43, limits={"max_running_requests": 4})
    until(lambda: image.gauge("trimtab_engine_settings_id") == 43, "the settings are in force")
    image.write(id=44, limits={"max_running_requests": 9})
    until(lambda: image.gauge('trimtab_engine_degraded{reason="settings_refused"}') == 1, "they are refused")
    assert image.gauge("trimtab_engine_settings_id") == 43
    assert "limits.max_running_requests: must be 1 to 8" in image.document("/health")["reasons"]["settings_refused"]
    assert image.document("/v1/optimization/status")["limits"]["max_running_requests"] == 4


def test_who_finds_the_queue_full_is_refused_at_once(image: Image) -> None:
    image.write(id=45, limits={"max_running_requests": 1, "max_queued_requests": 0})
    until(lambda: image.gauge("trimtab_engine_settings_id") == 45, "the settings are in force")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(image.complete, 200)
        until(lambda: image.gauge("vllm:num_requests_running") == 1, "one runs")
        assert image.complete(1) == 429
        assert asked.result() == 200

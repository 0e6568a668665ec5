"""The probe, the drain and the small model against real vLLM."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vllm.fixtures import StartVllm
from tests.vllm.record import prompt, read_stream
from tests.vllm.server import VllmServer
from trimtab_engine import drain, probe
from trimtab_engine.drain import Pace

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

RECORDINGS = Path(__file__).parent / "recordings"
SERVER = ("--max-num-seqs", "4", "--shutdown-timeout", "60")


@pytest.fixture
def server(vllm_server: StartVllm) -> VllmServer:
    return vllm_server(*SERVER)


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE))


def test_the_probe_passes_on_a_real_completion(server: VllmServer) -> None:
    assert probe.main(["--port", str(server.port), "--timeout", "60"]) == 0
    assert probe.main(["--port", str(server.port), "--model", "m75", "--timeout", "60"]) == 0


def test_the_probe_fails_for_a_model_that_is_not_served(server: VllmServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main(["--port", str(server.port), "--model", "other"]) == 1
    assert "/v1/completions answers 404: " in capsys.readouterr().err


def test_a_byte_is_a_token_and_the_model_writes_what_it_is_asked_for(server: VllmServer) -> None:
    body = {"prompt": prompt(1, 100), "max_tokens": 50, "ignore_eos": True, "temperature": 0}
    first = server.post("/v1/completions", body)
    assert first["usage"]["prompt_tokens"] == 100
    assert first["usage"]["completion_tokens"] == 50
    text = first["choices"][0]["text"]
    assert sum(character.isprintable() for character in text) > 40
    assert server.post("/v1/completions", body)["choices"][0]["text"] == text


def test_the_recorded_metrics_are_those_that_vllm_has(server: VllmServer) -> None:
    server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})  # vLLM's HTTP metrics begin with a request
    assert metric_names(server.get("/metrics")) == metric_names((RECORDINGS / "metrics-after-load.txt").read_text())


def test_the_recorded_answers_have_the_fields_that_vllm_gives(server: VllmServer) -> None:
    recorded = json.loads((RECORDINGS / "completion.json").read_text())
    answer = server.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0})
    assert answer.keys() == recorded.keys()
    assert answer["choices"][0].keys() == recorded["choices"][0].keys()
    assert answer["usage"] == recorded["usage"]


def test_the_hook_waits_for_running_and_queued_requests_and_none_is_lost(server: VllmServer) -> None:
    """The last test of this server: at its end the server gets SIGTERM, as a pod does."""
    started = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        streams: list[Future[dict[str, object]]] = [
            pool.submit(read_stream, server, number, 0.0, silent=None) for number in range(100, 108)
        ]

        def look() -> drain.Reading:
            reading = drain.read("127.0.0.1", server.port)
            if reading.in_flight:
                started.set()
            return reading

        while not started.is_set() and not all(stream.done() for stream in streams):
            look()
        why = drain.drain(look, Pace(settle=0, interval=0.1, quiet=1, deadline=300))
        assert started.is_set()
        assert why.startswith("drained: no request for 1 s"), why
        server.process.terminate()
        outcomes = [stream.result() for stream in streams]
    assert [outcome["last_event"] for outcome in outcomes] == ["data: [DONE]"] * 8
    assert [outcome.get("error") for outcome in outcomes] == [None] * 8
    assert server.process.wait(120) == 0

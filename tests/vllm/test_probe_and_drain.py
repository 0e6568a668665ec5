"""The start-up probe and the preStop hook against a small HTTP server that answers as engines do."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trimtab_engine import drain, main, probe
from trimtab_engine.drain import Pace, Reading

RECORDINGS = Path(__file__).parent / "recordings"
SOURCES = Path(probe.__file__).parent


@dataclass
class FakeEngine:
    """Answers by path: a status and a body each; remembers what was asked."""

    answers: dict[str, tuple[int, str]]
    port: int = 0
    requests: list[tuple[str, dict[str, str], str]] = field(default_factory=list)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    fake = FakeEngine(answers={})

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            fake.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status, text = fake.answers.get(self.path, (404, "not here"))
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = answer  # noqa: N815 - the names that the base class calls

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def serve_recorded_answers(engine: FakeEngine) -> None:
    engine.answers["/v1/models"] = (200, (RECORDINGS / "models.json").read_text())
    engine.answers["/v1/completions"] = (200, (RECORDINGS / "completion.json").read_text())


def unused_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


def run_text(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program's text with `python -c` and without this project on the path, as in another engine's image."""
    source = (SOURCES / f"{program}.py").read_text()
    command = [sys.executable, "-I", "-c", source, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_probe_asks_for_one_token_of_the_first_model(engine: FakeEngine) -> None:
    serve_recorded_answers(engine)
    assert probe.main(["--port", str(engine.port)]) == 0
    path, _, body = engine.requests[-1]
    assert path == "/v1/completions"
    assert json.loads(body) == {"model": "m75", "prompt": "Ready?", "max_tokens": 1, "temperature": 0}


def test_the_probe_sends_the_key_that_the_engine_asks_for(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_recorded_answers(engine)
    monkeypatch.setenv("VLLM_API_KEY", "a-key")
    assert probe.main(["--port", str(engine.port), "--model", "m75"]) == 0
    assert [headers["authorization"] for _, headers, _ in engine.requests] == ["Bearer a-key"]


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"/v1/models": (200, '{"data": []}')}, "/v1/models names no model"),
        ({"/v1/models": (503, '{"error": "engine\\n is loading"}')}, '/v1/models answers 503: {"error": "engine\\n is'),
        ({"/v1/models": (200, "<html>")}, "/v1/models does not answer JSON: '<html>'"),
        ({"/v1/models": (200, "[]")}, "/v1/models does not answer a JSON object: '[]'"),
        ({"/v1/completions": (500, "EngineDeadError")}, "/v1/completions answers 500: EngineDeadError"),
        ({"/v1/completions": (200, '{"choices": []}')}, "/v1/completions answers without a completion"),
        ({"/v1/completions": (200, '{"choices": [{"finish_reason": "error"}]}')}, "the completion ended with 'error'"),
    ],
)
def test_the_probe_says_in_one_sentence_why_the_engine_is_not_ready(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], answers: dict[str, tuple[int, str]], sentence: str
) -> None:
    serve_recorded_answers(engine)
    engine.answers.update(answers)
    assert probe.main(["--port", str(engine.port)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"not ready: {sentence}")
    assert said.count("\n") == 1


def test_the_probe_fails_while_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    port = unused_port()
    assert probe.main(["--port", str(port)]) == 1
    assert f"/v1/models on port {port} does not answer: " in capsys.readouterr().err


def test_the_text_of_the_probe_runs_in_an_image_that_lacks_the_package(engine: FakeEngine) -> None:
    serve_recorded_answers(engine)
    ready = run_text("probe", "--port", str(engine.port))
    assert (ready.returncode, ready.stderr) == (0, "")
    engine.answers["/v1/completions"] = (500, "EngineDeadError")
    assert run_text("probe", "--port", str(engine.port)).returncode == 1


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        ("metrics-idle.txt", Reading(in_flight=0, finished=0)),
        ("metrics-under-load.txt", Reading(in_flight=12, finished=None)),
    ],
)
def test_what_vllm_says_about_its_requests_is_understood(recording: str, expected: Reading) -> None:
    found = drain.understand((RECORDINGS / recording).read_text())
    assert found.in_flight == expected.in_flight
    assert found.finished is not None
    if expected.finished is not None:
        assert found.finished == expected.finished


@pytest.mark.parametrize(
    ("metrics", "in_flight", "finished"),
    [
        (
            'sglang:num_running_reqs{tp_rank="0",engine_type="unified"} 3.0\n'
            'sglang:num_running_reqs{tp_rank="1",engine_type="unified"} 3.0\n'
            'sglang:num_queue_reqs{tp_rank="0"} 0.0\nsglang:num_requests_total{model_name="a}b c"} 17.0\n',
            6,
            17,
        ),
        ("tgi_queue_size 2\ntgi_batch_current_size 5\ntgi_request_count 40\n", 7, 40),
        ("vllm:num_requests_running 0\nvllm:num_requests_waiting 0 1719000000000\n", 0, None),
        ("vllm:num_requests_running NaN\nvllm:num_requests_waiting 0\n", None, None),
        ("vllm:num_requests_running 0\n", None, None),
        ("", None, None),
        ("<html>\n} } {\n 5\n", None, None),
    ],
)
def test_other_engines_are_understood_and_what_is_missing_is_not_zero(
    metrics: str, in_flight: float | None, finished: float | None
) -> None:
    found = drain.understand(metrics)
    assert found.in_flight == in_flight
    if in_flight is None:
        assert found.problem
    else:
        assert found.finished == finished


@dataclass
class Story:
    """A clock that only moves by sleeping, and an engine whose state depends on it."""

    state: Callable[[float], Reading]
    now: float = 1000.0
    looks: list[float] = field(default_factory=list)

    def look(self) -> Reading:
        self.looks.append(self.now - 1000.0)
        return self.state(self.now - 1000.0)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def drain(self, **pace: float) -> tuple[str, float]:
        """Why the drain ended, and after how many seconds."""
        why = drain.drain(self.look, Pace(**pace), clock=lambda: self.now, sleep=self.sleep)
        return why, self.now - 1000.0


IDLE = Reading(in_flight=0, finished=5)


def test_an_idle_engine_is_drained_after_the_wait_and_the_quiet_time() -> None:
    story = Story(lambda now: IDLE)
    why, seconds = story.drain(settle=5, quiet=6, interval=0.5)
    assert why == "drained: no request for 6 s, 12 s after the pod was asked to end."
    assert seconds == 11.5  # the first look has nothing to compare its counter with
    assert story.looks[0] == 5


def test_running_requests_hold_the_end_back() -> None:
    why, seconds = Story(lambda now: IDLE if now >= 20 else Reading(in_flight=1, finished=4)).drain(quiet=2)
    assert why.startswith("drained: no request for 2 s")
    assert seconds == 22.5


def test_a_request_that_came_and_went_between_two_looks_is_noticed() -> None:
    why, seconds = Story(lambda now: Reading(in_flight=0, finished=min(9, int(now)))).drain(quiet=3)
    assert why.startswith("drained")
    assert seconds >= 9 + 3


def test_at_the_deadline_the_drain_ends_and_tells_what_still_runs() -> None:
    why, seconds = Story(lambda now: Reading(in_flight=3, finished=1)).drain(deadline=30)
    assert why == "not drained: the deadline of 30 s is over and 3 requests are running or waiting."
    assert 29 <= seconds <= 30


def test_metrics_that_cannot_be_understood_are_not_taken_for_an_idle_engine() -> None:
    unknown = Reading(in_flight=None, problem="its metrics do not tell how many requests it holds")
    why, seconds = Story(lambda now: unknown).drain(deadline=30)
    assert why.startswith("not drained: the deadline of 30 s is over and its metrics do not tell")
    assert seconds >= 29


def test_an_unreadable_moment_starts_the_quiet_time_again() -> None:
    slow = Reading(in_flight=None, problem="its metrics cannot be read: timed out")
    why, seconds = Story(lambda now: slow if now == 8 else IDLE).drain(settle=5, quiet=4, interval=0.5)
    assert why.startswith("drained")
    assert seconds >= 8.5 + 4


def test_an_engine_that_has_ended_is_not_waited_for() -> None:
    gone = Reading(in_flight=None, problem="nothing listens on its port any more", gone=True)
    why, seconds = Story(lambda now: gone).drain(settle=5, interval=0.5)
    assert why == "drained: nothing listens on its port any more."
    assert seconds == 6


QUICK = ("--settle", "0", "--interval", "0.01", "--quiet", "0.05")


def test_the_text_of_the_hook_runs_in_an_image_that_lacks_the_package(engine: FakeEngine, tmp_path: Path) -> None:
    engine.answers["/metrics"] = (200, (RECORDINGS / "metrics-idle.txt").read_text())
    log = tmp_path / "log"
    done = run_text("drain", "--port", str(engine.port), *QUICK, "--log", str(log))
    assert done.returncode == 0
    assert done.stdout.startswith("drained: no request for 0.05 s")
    assert log.read_text() == done.stdout


def test_the_hook_ends_well_whatever_it_meets(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.answers["/metrics"] = (200, (RECORDINGS / "metrics-under-load.txt").read_text())
    assert drain.main(["--port", str(engine.port), *QUICK, "--deadline", "0.2", "--log", "/nowhere/log"]) == 0
    said = capsys.readouterr()
    assert said.out == "not drained: the deadline of 0.2 s is over and 12 requests are running or waiting.\n"
    assert said.err.startswith("cannot write to /nowhere/log: ")
    engine.answers["/metrics"] = (500, "broken")
    assert drain.main(["--port", str(engine.port), *QUICK, "--deadline", "0.1"]) == 0
    assert "and /metrics answers 500." in capsys.readouterr().out
    assert drain.main(["--port", str(unused_port()), *QUICK]) == 0
    assert capsys.readouterr().out == "drained: nothing listens on its port any more.\n"
    assert drain.main(["--host", "127.0.0.1\n", "--port", str(engine.port), *QUICK]) == 0
    assert capsys.readouterr().err.startswith("not drained: ")


def test_one_command_reaches_both_programs(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    serve_recorded_answers(engine)
    engine.answers["/metrics"] = (200, (RECORDINGS / "metrics-idle.txt").read_text())
    assert main.main(["probe", "--port", str(engine.port)]) == 0
    assert main.main(["drain", "--port", str(engine.port), *QUICK]) == 0
    assert main.main([]) == 2
    assert "usage: trimtab-engine VERB" in capsys.readouterr().err
    assert main.main(["--help"]) == 0


def test_both_texts_are_short_enough_to_be_an_argument_in_a_pod() -> None:
    # One argument of a process may have 128 KiB; a pod's manifest is read by people.
    assert all(len((SOURCES / f"{program}.py").read_bytes()) < 10_000 for program in ("probe", "drain"))

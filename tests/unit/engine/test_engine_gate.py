"""What every request passes: admission, time-outs, health, and the endpoints for settings."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.unit.engine.asgi import Engine, ask, until, vllm_config
from trimtab_engine.asgi.answers import Message
from trimtab_engine.config.load import load
from trimtab_engine.engines.facts import Attention
from trimtab_engine.engines.vllm.live import facts_of
from trimtab_engine.server.gate import Gate
from trimtab_engine.server.metrics import Metrics
from trimtab_engine.shared.board import Board, Notice
from trimtab_engine.shared.folder import START, replace_json
from trimtab_engine.shared.wanted import WantedFile

TOKEN = "a-token-of-some-length"
BEARER = {"authorization": f"Bearer {TOKEN}"}
COMPLETIONS = "/v1/completions"


class House:
    """A gate before an engine, with the folders that both need."""

    def __init__(self, folder: Path, **given: Any) -> None:
        self.folder = folder
        self.now: float | None = None
        self.settings = folder / "settings.yaml"
        self.token = folder / "token"
        self.token.write_text(TOKEN + "\n")
        self.engine = Engine()
        self.registry = CollectorRegistry()
        self.gate = Gate(self.engine, folder=folder, metrics=Metrics(self.registry), clock=self.clock)
        fields = {"model": "m", "settings_file": str(self.settings), "server.token_file": str(self.token), **given}
        self.config = load(None, {}, fields)
        self.gate.set_up(self.config, folder, facts_of(vllm_config()))

    def clock(self) -> float:
        """The gate's clock; the event loop has its own, which goes on."""
        return time.monotonic() if self.now is None else self.now

    def settle(self) -> None:
        """Two looks at the settings file, as in the loop."""
        self.gate.control.tick()
        self.gate.control.tick()

    def metric(self, line: str) -> float:
        found = [text for text in generate_latest(self.registry).decode().splitlines() if text.startswith(line + " ")]
        return float(found[0].split()[-1])

    async def status(self) -> Any:
        return (await ask(self.gate, "GET", "/v1/optimization/status")).document

    async def configure(self, document: object, headers: dict[str, str] | None = None) -> Any:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        path = "/v1/optimization/configure"
        return await ask(self.gate, "POST", path, body=body, headers=BEARER if headers is None else headers)

    def begin(self, count: int) -> list[asyncio.Task[Any]]:
        """That many requests at once."""
        return [asyncio.create_task(ask(self.gate, "POST", COMPLETIONS)) for _ in range(count)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_a_full_queue_is_answered_at_once_and_the_others_get_their_answers(tmp_path: Path) -> None:
    house = House(tmp_path, **{"limits.max_running_requests": 2, "limits.max_queued_requests": 1})
    inside = house.begin(3)
    await until(lambda: house.engine.seen == 3)
    refused = await ask(house.gate, "POST", "/v1/chat/completions")
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.document["error"] == {
        "message": "The queue is full: 1 request waits, and 1 may.",
        "type": "queue_full",
        "param": None,
        "code": 429,
    }
    assert house.metric('trimtab_engine_requests_refused_total{reason="queue_full"}') == 1
    house.engine.answering.set()
    assert [(await task).status for task in inside] == [200] * 3
    assert len(house.gate.inside) == 0


async def test_who_has_the_end_of_an_answer_finds_its_place_free(tmp_path: Path) -> None:
    house = House(tmp_path, **{"limits.max_running_requests": 1, "limits.max_queued_requests": 0})
    inside: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            inside.append(len(house.gate.inside))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    house.engine.answering.set()
    scope = {"type": "http", "method": "POST", "path": COMPLETIONS, "headers": [(b"content-length", b"2")]}
    await house.gate({**scope, "app": SimpleNamespace(state=None)}, receive, send)
    assert inside == [0]
    assert len(house.gate.inside) == 0


async def test_who_comes_behind_one_that_has_waited_too_long_is_refused_before_any_speed_is_known(
    tmp_path: Path,
) -> None:
    house = House(tmp_path, **{"limits.max_running_requests": 2, "limits.max_wait_seconds": 0.5})
    house.now = time.monotonic()
    inside = house.begin(3)
    await until(lambda: house.engine.seen == 3)
    house.now += 0.4
    inside += house.begin(1)
    await until(lambda: house.engine.seen == 4)
    assert house.gate.inside.load().waited_seconds == pytest.approx(0.4)
    house.now += 0.2
    refused = await ask(house.gate, "POST", COMPLETIONS)
    assert (refused.status, refused.document["error"]["type"]) == (429, "wait_too_long")
    house.engine.answering.set()
    assert [(await task).status for task in inside] == [200] * 4
    assert house.gate.inside.load().waited_seconds == 0.0


async def test_what_does_not_make_the_engine_compute_is_never_refused(tmp_path: Path) -> None:
    house = House(tmp_path, **{"limits.max_running_requests": 1, "limits.max_queued_requests": 0})
    inside = house.begin(1)
    await until(lambda: house.engine.seen == 1)
    assert (await ask(house.gate, "POST", COMPLETIONS)).status == 429
    house.engine.answering.set()
    assert (await ask(house.gate, "POST", "/tokenize")).status == 200
    assert (await inside[0]).status == 200


async def test_health_tells_of_refusals_and_the_engine_decides_the_status(tmp_path: Path) -> None:
    house = House(tmp_path, **{"limits.max_running_requests": 1, "limits.max_queued_requests": 0})
    why = "GPUs are not watched: the program that starts the engines has not told of any."
    rest: dict[str, Any] = {"attention": None, "gpus": {"watched": False, "why": why}, "speculation": None}
    well: dict[str, Any] = {"status": "ok", "engine": "vllm", **rest, "reasons": {}}
    assert (await ask(house.gate, "GET", "/health")).document == well
    inside = house.begin(1)
    await until(lambda: house.engine.seen == 1)
    await ask(house.gate, "POST", COMPLETIONS)
    health = await ask(house.gate, "GET", "/health")
    assert (health.status, health.document["status"]) == (200, "degraded")
    assert list(health.document["reasons"]) == ["refusing_requests"]
    house.engine.healthy = False
    failing = await ask(house.gate, "GET", "/health")
    assert (failing.status, failing.document["status"]) == (503, "failing")
    house.engine.answering.set()
    await inside[0]


async def test_a_request_that_takes_too_long_ends_in_the_engine_too(tmp_path: Path) -> None:
    house = House(tmp_path, **{"server.request_timeout_seconds": 0.01})
    late = await ask(house.gate, "POST", COMPLETIONS)
    assert late.status == 504
    assert late.document["error"]["message"] == "The request took longer than 0.01 s."
    assert (house.engine.aborted, len(house.gate.inside)) == (1, 0)
    assert house.metric("trimtab_engine_requests_timed_out_total") == 1


async def test_a_stream_that_takes_too_long_ends_with_an_error_in_it(tmp_path: Path) -> None:
    house = House(tmp_path, **{"server.request_timeout_seconds": 0.05})
    house.engine.stream = True
    late = await ask(house.gate, "POST", COMPLETIONS)
    events = late.body.decode().split("\n\n")
    assert (late.status, events[0], events[2]) == (200, "data: 1", "data: [DONE]")
    assert json.loads(events[1].removeprefix("data: "))["error"]["code"] == 504
    assert late.complete


async def test_an_answer_in_time_is_passed_on_unchanged(tmp_path: Path) -> None:
    house = House(tmp_path, **{"server.request_timeout_seconds": 60})
    house.engine.stream = True
    house.engine.answering.set()
    got = await ask(house.gate, "POST", COMPLETIONS)
    assert (got.status, got.body) == (200, b"data: 1\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("chunks", [1, 4])
async def test_a_body_that_is_too_long_is_refused_with_or_without_its_length(tmp_path: Path, chunks: int) -> None:
    house = House(tmp_path, **{"server.largest_body_bytes": 1024})
    house.engine.answering.set()
    refused = await ask(house.gate, "POST", COMPLETIONS, body=b"x" * 1025, chunks=chunks)
    assert refused.status == 413
    assert refused.document["error"]["message"] == "The body of the request is longer than 1024 bytes."
    assert (await ask(house.gate, "POST", COMPLETIONS, body=b"x" * 1024, chunks=chunks)).status == 200
    assert len(house.gate.inside) == 0


async def test_a_nonsensical_length_is_refused(house: House) -> None:
    refused = await ask(house.gate, "POST", COMPLETIONS, headers={"content-length": "-1"})
    assert refused.status == 413


async def test_the_settings_file_is_taken_up_and_what_it_does_not_name_is_as_at_the_start(house: House) -> None:
    await house.configure({"limits": {"kv_headroom_percent": 20}})
    house.settings.write_text("limits:\n  max_running_requests: 4\n")
    house.settle()
    status = await house.status()
    assert (status["limits"]["max_running_requests"], status["limits"]["kv_headroom_percent"]) == (4, 0)
    assert (status["source"], status["revision"], status["in_force"]) == ("file", 3, False)
    assert house.metric('trimtab_engine_limit{limit="max_running_requests"}') == 4
    wanted = WantedFile(house.folder).read()
    assert wanted is not None
    assert wanted.limits.max_running_requests == 4
    Board(house.folder).post(Notice(revision=3, running=4))
    house.gate.control.tick()
    assert (await house.status())["in_force"] is True
    assert house.metric("trimtab_engine_limits_revision_in_force") == 3


async def test_a_file_that_is_being_written_is_left_alone_until_it_rests(house: House) -> None:
    house.settings.write_text("limits:\n  max_running_requests: 1")
    house.gate.control.tick()
    house.settings.write_text("limits:\n  max_running_requests: 16\n")
    house.gate.control.tick()
    assert (await house.status())["limits"]["max_running_requests"] == 32
    house.gate.control.tick()
    assert (await house.status())["limits"]["max_running_requests"] == 16


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"limits": {"max_running_requests": 8, "max_tok', "document: is not YAML"),
        (b"limits:\n  max_running_requests: 99\n", "limits.max_running_requests: must be 1 to 32"),
        (b"limits:\n  max_runing_requests: 9\n", "limits.max_runing_requests: is not known; did you mean"),
        (b"", "document: is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        (None, "is not there"),
    ],
)
async def test_a_bad_settings_file_changes_nothing_and_says_why(house: House, content: bytes | None, said: str) -> None:
    house.settings.write_text("limits:\n  max_running_requests: 4\n")
    house.settle()
    if content is None:
        house.settings.unlink()
    else:
        house.settings.write_bytes(content)
    house.settle()
    status = await house.status()
    assert status["limits"]["max_running_requests"] == 4
    assert status["settings_file"]["problem"].startswith(said)
    assert said in status["degraded"]["settings_refused"]
    health = (await ask(house.gate, "GET", "/health")).document
    assert (health["status"], list(health["reasons"])) == ("degraded", ["settings_refused"])
    assert house.metric('trimtab_engine_settings_changes_total{outcome="refused",source="file"}') == 1
    house.settings.write_text("limits:\n  max_running_requests: 5\n")
    house.settle()
    status = await house.status()
    assert (status["limits"]["max_running_requests"], status["degraded"]) == (5, {})


async def test_a_settings_file_that_nobody_has_written_yet_is_no_problem(house: House) -> None:
    house.settle()
    assert (await house.status())["degraded"] == {}


async def test_a_request_changes_what_it_names(house: House) -> None:
    house.settings.write_text("limits:\n  max_running_requests: 4\n")
    house.settle()
    answer = await house.configure({"limits": {"max_tokens_per_step": 512}})
    assert answer.status == 200
    limits = answer.document["limits"]
    assert (limits["max_running_requests"], limits["max_tokens_per_step"]) == (4, 512)
    house.settle()
    assert (await house.status())["source"] == "request"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"limits": {"max_running_requests": 0}}, "limits.max_running_requests"),
        ({"limits": {"max_running_requests": 8, "max_tokens_per_step": 7}}, "limits.max_tokens_per_step"),
        (b"{", "document"),
        (b"[" * 60_000, "document"),
        (b" " * 70_000, "document"),
        ([], "document"),
    ],
)
async def test_a_bad_request_changes_nothing_and_names_the_field(house: House, document: object, field: str) -> None:
    refused = await house.configure(document)
    assert refused.status == 400
    assert refused.document["error"]["param"] == field
    assert refused.document["problems"][0]["field"] == field
    assert (await house.status())["revision"] == 1


async def test_only_the_token_opens_the_endpoint(house: House) -> None:
    document = {"limits": {"max_running_requests": 1}}
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
        assert (await house.configure(document, headers)).status == 401
    house.token.write_text("another-token-of-some-length")
    assert (await house.configure(document)).status == 401
    house.token.write_text("short")
    assert (await house.configure(document, {"authorization": "Bearer short"})).status == 403
    house.token.unlink()
    refused = await house.configure(document)
    assert (refused.status, refused.document["error"]["type"]) == (403, "endpoint_off")
    assert (await house.status())["revision"] == 1


async def test_without_a_token_file_the_endpoint_is_off(tmp_path: Path) -> None:
    house = House(tmp_path, **{"server.token_file": None})
    assert (await house.configure({"limits": {}}, {"authorization": "Bearer "})).status == 403


async def test_the_status_asks_for_the_api_key_where_there_is_one(house: House) -> None:
    state = SimpleNamespace(args=SimpleNamespace(api_key=["an-api-key"]))
    path = "/v1/optimization/status"
    assert (await ask(house.gate, "GET", path, state=state)).status == 401
    key = {"authorization": "Bearer an-api-key"}
    assert (await ask(house.gate, "GET", path, state=state, headers=key)).status == 200
    assert (await ask(house.gate, "GET", path, state=state, headers=BEARER)).status == 200


async def test_other_endpoints_and_methods_are_told_so(house: House) -> None:
    assert (await ask(house.gate, "GET", "/v1/optimization/nothing")).status == 404
    wrong = await ask(house.gate, "GET", "/v1/optimization/configure")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


async def test_limits_that_cannot_be_stored_are_told_and_a_file_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    house = House(tmp_path / "run")
    away = tmp_path / "away"
    house.settings = tmp_path / "settings.yaml"
    house.token = tmp_path / "token"
    house.token.write_text(TOKEN)
    fields = {"model": "m", "settings_file": str(house.settings), "server.token_file": str(house.token)}
    house.gate = Gate(house.engine, folder=house.folder, metrics=Metrics(CollectorRegistry()))
    house.gate.set_up(load(None, {}, fields), house.folder, facts_of(vllm_config()))
    house.folder.rename(away)  # as good as a full disk: nothing can be written
    house.settings.write_text("limits: {max_running_requests: 3}")
    house.settle()
    assert (await house.status())["settings_file"]["problem"] == "cannot be taken up: No such file or directory"
    refused = await house.configure({"limits": {"max_running_requests": 2}})
    assert (refused.status, refused.document["error"]["type"]) == (503, "not_stored")
    away.rename(house.folder)
    house.settle()
    status = await house.status()
    assert (status["limits"]["max_running_requests"], status["degraded"]) == (3, {})


async def test_two_api_servers_of_one_engine_agree(house: House) -> None:
    other = Gate(house.engine, folder=house.folder, metrics=Metrics(CollectorRegistry()))
    other.set_up(house.config, house.folder, facts_of(vllm_config()))
    assert other.control.wanted.revision == 1
    await house.configure({"limits": {"max_running_requests": 3}})
    other.control.tick()
    assert other.control.wanted == house.gate.control.wanted


async def test_limits_of_the_start_that_the_engine_does_not_have_are_brought_within_it(tmp_path: Path) -> None:
    house = House(tmp_path, **{"limits.max_running_requests": 1000})
    assert house.gate.control.start.limits.max_running_requests == 32


class Lifespan:
    """The server's side of the lifespan protocol."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.started = asyncio.Event()
        self.ending = asyncio.Event()
        self._asked = 0

    async def receive(self) -> Message:
        self._asked += 1
        if self._asked > 1:
            await self.ending.wait()
        return {"type": "lifespan.startup" if self._asked == 1 else "lifespan.shutdown"}

    async def send(self, message: Message) -> None:
        self.sent.append(message["type"])
        self.started.set()


def lifespan_scope() -> Any:
    return {"type": "lifespan", "app": SimpleNamespace(state=SimpleNamespace(vllm_config=vllm_config()))}


async def test_the_gate_starts_with_the_server_and_looks_at_the_file_by_itself(tmp_path: Path) -> None:
    fields = {"model": "m", "settings_file": str(tmp_path / "s"), "settings_interval_seconds": 0.05}
    replace_json(tmp_path / START, load(None, {}, fields).model_dump(mode="json"))
    (tmp_path / "s").write_text("limits: {max_running_requests: 7}")
    gate = Gate(Engine(), folder=tmp_path, metrics=Metrics(CollectorRegistry()))
    lifespan = Lifespan()
    running = asyncio.create_task(gate(lifespan_scope(), lifespan.receive, lifespan.send))
    await lifespan.started.wait()
    await until(lambda: gate.control.wanted.limits.max_running_requests == 7)
    lifespan.ending.set()
    await running
    assert lifespan.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_the_gate_starts_with_an_engine_of_ours_whose_server_knows_nothing_of_vllm(tmp_path: Path) -> None:
    replace_json(tmp_path / START, load(None, {}, {"model": "m"}).model_dump(mode="json"))
    engine = replace(facts_of(vllm_config()), name="pytorch", attention=Attention(kernel="sdpa", device="cpu"))
    gate = Gate(Engine(), engine=engine, folder=tmp_path, metrics=Metrics(CollectorRegistry()))
    lifespan = Lifespan()
    running = asyncio.create_task(gate({"type": "lifespan"}, lifespan.receive, lifespan.send))
    await lifespan.started.wait()
    assert (await ask(gate, "GET", "/health")).document["engine"] == "pytorch"
    lifespan.ending.set()
    await running
    assert lifespan.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_server_without_its_start_file_does_not_start(tmp_path: Path) -> None:
    lifespan = Lifespan()
    await Gate(Engine(), folder=tmp_path)(lifespan_scope(), lifespan.receive, lifespan.send)
    assert lifespan.sent == ["lifespan.startup.failed"]


# Classes of requests.


def ordered_house(folder: Path, **given: Any) -> House:
    """An engine that takes requests by priority."""
    house = House(folder, **given)
    config = vllm_config()
    config.scheduler_config.policy = "priority"
    house.gate.set_up(house.config, folder, facts_of(config))
    return house


async def test_a_class_with_a_smaller_share_of_the_queue_is_refused_first(tmp_path: Path) -> None:
    house = House(tmp_path, **{"limits.max_running_requests": 1, "limits.max_queued_requests": 4})
    house.settings.write_text("classes: {batch: {queue_percent: 25}}\nlimits: {max_queued_requests: 4}\n")
    house.settle()
    inside = house.begin(2)
    await until(lambda: house.engine.seen == 2)
    batch = await ask(house.gate, "POST", COMPLETIONS, headers={"x-request-class": "batch"})
    assert batch.status == 429
    assert batch.document["error"]["message"] == "The queue is full: 1 request waits, and 1 may for one of its class."
    inside += house.begin(1)
    await until(lambda: house.engine.seen == 3)
    house.engine.answering.set()
    assert [(await task).status for task in inside] == [200] * 3


async def test_the_priority_of_its_class_stands_in_a_request_whatever_it_says_itself(tmp_path: Path) -> None:
    house = ordered_house(tmp_path)
    house.engine.answering.set()
    body = json.dumps({"prompt": "x", "priority": -999}).encode()
    await ask(house.gate, "POST", COMPLETIONS, body=body, headers={"x-request-class": "batch"})
    assert house.engine.bodies[-1] == body, "no class goes first, so nothing is written anew"
    await house.configure({"classes": {"batch": {"priority": 10}, "default": {"priority": 2}}})
    for name, priority in (("batch", 10), ("nobody", 2)):
        headers = {"x-request-class": name, "content-length": str(len(body))}
        await ask(house.gate, "POST", COMPLETIONS, body=body, headers=headers)
        assert json.loads(house.engine.bodies[-1]) == {"prompt": "x", "priority": priority}
    await ask(house.gate, "POST", COMPLETIONS, body=b"{cut", headers={"x-request-class": "batch"})
    assert house.engine.bodies[-1] == b"{cut", "the engine says what is wrong with it"


async def test_the_id_of_the_settings_shows_once_they_are_in_force(tmp_path: Path) -> None:
    house = House(tmp_path)
    board = Board(tmp_path)
    house.settings.write_text('{"id": 42, "limits": {"max_running_requests": 5}}')
    board.post(Notice(revision=1, running=1))
    house.settle()
    assert house.metric("trimtab_engine_settings_id") == 0, "a step with the old ones runs"
    board.post(Notice(revision=2, running=1))
    house.gate.control.tick()
    assert house.metric("trimtab_engine_settings_id") == 42
    assert (await house.status())["id"] == 42
    house.settings.write_text('{"id": 43, "limits": {"max_running_requests": 5}}')
    board.post(Notice(revision=2))
    house.settle()
    assert house.metric("trimtab_engine_settings_id") == 43, "an idle engine has them from its next step on"
    await house.configure({"limits": {"max_running_requests": 6}})
    house.gate.control.tick()
    assert house.metric("trimtab_engine_settings_id") == 0, "a request changed them since"
    board.close()

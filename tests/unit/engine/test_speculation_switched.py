"""Guessing on and off: the check before the first request, the bound while it serves, and where it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.models.make_llama import SHAPES, write
from tests.unit.engine.asgi import ask, until, vllm_config
from tests.unit.engine.test_engine_api import RESTING, Letters
from tests.unit.engine.test_engine_gate import House
from tests.unit.engine.test_engine_live import Plain
from trimtab_engine.config.load import load
from trimtab_engine.config.model import Config
from trimtab_engine.engines.common.api import Api
from trimtab_engine.engines.common.proof import PROMPTS
from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.engines.registry import ENGINES
from trimtab_engine.engines.vllm.live import LiveLimits, facts_of
from trimtab_engine.server.metrics import Metrics
from trimtab_engine.server.speculating import Speculating, begin
from trimtab_engine.shared.board import Board, Boards, Notice
from trimtab_engine.shared.folder import VARIABLE
from trimtab_engine.shared.switched import SwitchFile
from trimtab_engine.speculation.acceptance import Guessed
from trimtab_engine.speculation.switch import Switch, Why

ON = Switch(method="ngram", on=True, since="2026-01-01T00:00:00Z")
ASKED = {"speculation.method": "ngram", "speculation.window_seconds": 10, "speculation.fewest_tokens": 100}


def config(**fields: Any) -> Config:
    return load(None, {}, {"model": "m", **fields})


# What is left for the engine before it starts.


def test_without_a_wish_for_guesses_there_is_no_switch(tmp_path: Path) -> None:
    SwitchFile(tmp_path).write(ON)  # of an engine before this one
    assert begin(config(), tmp_path) == config()
    assert SwitchFile(tmp_path).read() is None


def test_a_draft_with_another_vocabulary_is_left_out_and_the_engine_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model"
    write(SHAPES["tiny"], model)
    fields = {"model": str(model), "speculation.method": "draft"}
    same = config(**fields, **{"speculation.draft_model": str(model)})
    assert begin(same, tmp_path) == same
    assert "--speculative-config" in ENGINES["vllm"].command(begin(same, tmp_path))
    missing = config(**fields, **{"speculation.draft_model": "/nowhere"})
    started = begin(missing, tmp_path)
    assert "--speculative-config" not in ENGINES["vllm"].command(started)
    switch = SwitchFile(tmp_path).read()
    assert switch is not None
    assert (switch.method, switch.on, switch.why) == ("draft", False, Why.CHECK_FAILED)
    assert switch.message.startswith("Nothing is guessed: /nowhere is no folder with a model")
    assert switch.message in caplog.text


# Our own engines.


class Guesser(Letters):
    """Says the same with guesses, or something else."""

    unable = ""

    def __init__(self) -> None:
        super().__init__()
        self.said_with_guesses: list[int] = self.tokens
        self.count = Guessed()

    @property
    def guessed(self) -> Guessed:  # type: ignore[override]
        return self.count

    def submit(
        self,
        name: str,
        tokens: list[int],
        wish: Wish,
        *,
        most: int,
        scope: int | None,
        on_output: Callable[[Output], None],
    ) -> None:
        self.submitted.append(name)
        answer = self.said_with_guesses if self.speculates else self.tokens
        if self.speculates:
            self.count += Guessed(drafts=3, tokens=6, accepted=4)
        asyncio.get_running_loop().call_soon(on_output, Output(tokens=answer[:most], finished=True))


class Room:
    """The API over it, in its lifespan."""

    def __init__(self, folder: Path, generator: Guesser) -> None:
        self.folder = folder
        self.generator = generator
        self.registry = CollectorRegistry()
        self.api = Api(generator, model="m", resting=RESTING, folder=folder, registry=self.registry)

    async def started(self) -> None:
        """Until the application says that it takes requests."""
        asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        told: asyncio.Queue[Any] = asyncio.Queue()
        await asked.put({"type": "lifespan.startup"})
        self.living = asyncio.create_task(self.api({"type": "lifespan"}, asked.get, told.put))
        assert (await told.get())["type"] == "lifespan.startup.complete"
        self.asked = asked

    async def ended(self) -> None:
        await self.asked.put({"type": "lifespan.shutdown"})
        await self.living

    def sample(self, name: str) -> float | None:
        return self.registry.get_sample_value(name, {"model_name": "m", "engine": "0"})

    @property
    def switch(self) -> Switch:
        found = SwitchFile(self.folder).read()
        assert found is not None
        return found


async def test_guesses_that_change_nothing_are_for_use_and_what_was_compared_is_kept(tmp_path: Path) -> None:
    SwitchFile(tmp_path).write(ON)
    room = Room(tmp_path, Guesser())
    await room.started()
    assert len(room.generator.submitted) == 2 * len(PROMPTS)
    answers = len(PROMPTS) * len(room.generator.tokens)
    assert room.switch == replace(ON, checked=answers, guessed=6 * len(PROMPTS))
    assert room.generator.speculates
    body = b'{"prompt": "abc", "max_tokens": 40}'
    assert (await ask(room.api, "POST", "/v1/completions", body=body)).status == 200
    guessed = 6 * (len(PROMPTS) + 1)
    assert room.sample("vllm:spec_decode_num_draft_tokens_total") == guessed
    assert room.sample("vllm:spec_decode_num_accepted_tokens_total") == guessed * 4 / 6
    boards = Boards(tmp_path)
    boards.find()
    assert boards.read().guessed == Guessed(drafts=guessed // 2, tokens=guessed, accepted=guessed * 4 // 6)
    await room.ended()


async def test_guesses_that_change_an_answer_are_off_before_the_first_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SwitchFile(tmp_path).write(ON)
    generator = Guesser()
    generator.said_with_guesses = [*b"hello there"]
    room = Room(tmp_path, generator)
    await room.started()
    assert (room.switch.on, room.switch.why) == (False, Why.CHECK_FAILED)
    message = f"the answer with guesses is not the one without: prompt 1 of {len(PROMPTS)} parts at token 7 of 12"
    assert message in room.switch.message
    assert message in caplog.text
    assert not generator.speculates
    body = b'{"prompt": "abc", "max_tokens": 40}'
    answer = await ask(room.api, "POST", "/v1/completions", body=body)
    assert answer.document["choices"][0]["text"] == "hello world"
    await room.ended()


async def test_an_engine_that_cannot_guess_says_so_and_serves(tmp_path: Path) -> None:
    SwitchFile(tmp_path).write(ON)
    generator = Guesser()
    generator.unable = "it was not built for that"
    room = Room(tmp_path, generator)
    await room.started()
    assert (room.switch.why, room.switch.message) == (
        Why.NOT_SUPPORTED,
        "Nothing is guessed: it was not built for that.",
    )
    assert generator.submitted == []
    await room.ended()


async def test_a_check_that_cannot_be_made_turns_guesses_off_and_nothing_else(tmp_path: Path) -> None:
    class Refusing(Guesser):
        def encode(self, wish: Wish) -> list[int]:
            raise ValueError("no such word")

    SwitchFile(tmp_path).write(ON)
    room = Room(tmp_path, Refusing())
    await room.started()
    assert (room.switch.on, room.switch.why) == (False, Why.CHECK_FAILED)
    assert "the check failed: ValueError: no such word" in room.switch.message
    await room.ended()


async def test_a_generator_that_dies_in_the_check_ends_it(tmp_path: Path) -> None:
    class Dying(Guesser):
        def submit(self, *_given: Any, **_more: Any) -> None:
            self.living = False

    SwitchFile(tmp_path).write(ON)
    room = Room(tmp_path, Dying())
    await room.started()
    assert "the generation has ended" in room.switch.message
    await room.ended()


async def test_guessing_is_switched_and_its_end_told_while_it_serves(tmp_path: Path) -> None:
    SwitchFile(tmp_path).write(ON)
    room = Room(tmp_path, Guesser())
    await room.started()
    SwitchFile(tmp_path).write(replace(ON, on=False, why=Why.LOW_ACCEPTANCE))
    await until(lambda: not room.generator.speculates)
    SwitchFile(tmp_path).write(ON)
    await until(lambda: room.generator.speculates)
    room.generator.unable = "MemoryError: no room"
    await until(lambda: not room.switch.on)
    assert (room.switch.why, room.switch.message) == (Why.FAILED, "Nothing is guessed: MemoryError: no room.")
    assert not room.generator.speculates
    await room.ended()


async def test_without_a_wish_there_are_no_counters_and_no_check(tmp_path: Path) -> None:
    room = Room(tmp_path, Guesser())
    await room.started()
    assert room.generator.submitted == []
    assert not room.generator.speculates
    assert room.sample("vllm:spec_decode_num_draft_tokens_total") is None
    await room.ended()


# vLLM's scheduler.


class Guessing(Plain):
    """As vLLM's scheduler: a step guesses as many as its output says."""

    def schedule(self, throttle_prefills: bool = False) -> Any:
        output = SimpleNamespace(num_spec_tokens_to_schedule=4)
        self._update_after_schedule(output)
        return output

    def _update_after_schedule(self, scheduler_output: Any) -> None:
        self.after = scheduler_output.num_spec_tokens_to_schedule

    def make_spec_decoding_stats(self, stats: Any, **given: Any) -> Any:
        return given["num_draft_tokens"]


class Live(LiveLimits, Guessing):
    """As `engines.vllm.scheduler` does with vLLM's own."""


def test_vllms_steps_guess_nothing_while_the_switch_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    live = Live(vllm_config=vllm_config())
    assert live.schedule().num_spec_tokens_to_schedule == 4
    SwitchFile(tmp_path).write(replace(ON, on=False))
    assert (live.schedule().num_spec_tokens_to_schedule, live.after) == (0, 0)
    (tmp_path / "speculation.json").write_text("{")
    assert live.schedule().num_spec_tokens_to_schedule == 0
    SwitchFile(tmp_path).write(ON)
    assert (live.schedule().num_spec_tokens_to_schedule, live.after) == (4, 4)


def test_what_vllm_guessed_is_on_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    live = Live(vllm_config=vllm_config())
    for accepted in (3, 0, 4):
        given = {"num_draft_tokens": 4, "num_accepted_tokens": accepted, "num_invalid_spec_tokens": None}
        assert live.make_spec_decoding_stats(None, **given, request_id="a") == 4
    live.make_spec_decoding_stats(None, num_draft_tokens=0, num_accepted_tokens=0)
    live.schedule()
    boards = Boards(tmp_path)
    boards.find()
    assert boards.read().guessed == Guessed(drafts=3, tokens=12, accepted=7)


# The server.


class Server:
    """What judges, with an engine that posts what it guessed."""

    def __init__(self, folder: Path, switch: Switch | None = ON, *, method: str = "", **fields: Any) -> None:
        self.file = SwitchFile(folder)
        if switch is not None:
            self.file.write(switch)
        self.board = Board(folder)
        self.registry = CollectorRegistry()
        asked = config(**ASKED, **fields).speculation
        metrics = Metrics(self.registry)
        self.speculating = Speculating(asked, folder=folder, metrics=metrics, method=method)
        self.total = Guessed()

    def second(self, at: float, *, right: int) -> None:
        """20 guesses in a second, so many of them right."""
        self.total += Guessed(drafts=5, tokens=20, accepted=right)
        total = self.total
        self.board.post(Notice(drafts=total.drafts, draft_tokens=total.tokens, accepted_tokens=total.accepted))
        self.speculating.look(at)

    @property
    def switch(self) -> Switch:
        found = self.file.read()
        assert found is not None
        return found

    def metric(self, line: str) -> str:
        text = generate_latest(self.registry).decode()
        return next(each.split()[-1] for each in text.splitlines() if each.startswith(line + " "))


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Servers that are closed when the test ends."""
    servers: list[Server] = []

    def make(switch: Switch | None = ON, **given: Any) -> Server:
        servers.append(Server(tmp_path, switch, **given))
        return servers[-1]

    yield make
    for server in servers:
        server.speculating.close()
        server.board.close()


def test_guessing_rests_where_too_little_is_right_and_is_tried_again(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(**{"speculation.retry_seconds": 30})
    for at in range(11):
        assert server.switch.on
        server.second(float(at), right=2)
    assert (server.switch.on, server.switch.why) == (False, Why.LOW_ACCEPTANCE)
    said = "Nothing is guessed for now: 10.0 % of 200 guessed tokens were right in the last 10 s, fewer than 30 %."
    assert server.switch.message == said
    assert said in caplog.text
    assert server.speculating.trouble == ""
    assert server.metric('trimtab_engine_speculation_on{method="ngram"}') == "0.0"
    assert server.metric('trimtab_engine_speculation_off{reason="low_acceptance"}') == "1.0"
    for at in range(11, 41):
        server.speculating.look(float(at))
        assert not server.switch.on
    server.speculating.look(41.0)
    assert (server.switch.on, server.switch.why) == (True, None)
    server.speculating.look(42.0)
    assert server.metric('trimtab_engine_speculation_off{reason="low_acceptance"}') == "0.0"


def test_the_share_of_right_guesses_is_told(serve: Serve) -> None:
    server = serve()
    for at in range(5):
        server.second(float(at), right=15)
    shown = server.speculating.shown()
    assert shown is not None
    assert (shown["method"], shown["on"], shown["reason"]) == ("ngram", True, None)
    told = {"guessed_tokens": 80, "accepted_tokens": 60, "acceptance_rate": 0.75}
    assert shown["window"] == {"seconds": 10, **told}
    assert shown["total"]["guessed_tokens"] == 100
    assert server.metric('trimtab_engine_speculation_acceptance{method="ngram"}') == "0.75"


def test_a_bound_of_nothing_never_lets_it_rest(serve: Serve) -> None:
    server = serve(**{"speculation.least_acceptance_percent": 0})
    for at in range(30):
        server.second(float(at), right=0)
    assert server.switch.on


def test_what_vllms_own_arguments_ask_for_is_told_and_left_alone(serve: Serve) -> None:
    server = serve(None, method="eagle3")
    for at in range(30):
        server.second(float(at), right=0)
    shown = server.speculating.shown()
    assert shown is not None
    assert (shown["method"], shown["on"], shown["window"]["acceptance_rate"]) == ("eagle3", True, 0)
    assert server.file.read() is None


async def answers(server: Server, with_guesses: list[list[int]], salt: str) -> list[list[int]]:
    """As an engine that looks at the switch."""
    assert server.switch.on == (salt == "with")
    if server.switch.on:
        server.board.post(Notice(drafts=2, draft_tokens=8, accepted_tokens=5))
        return with_guesses
    return [[1, 2, 3], [4, 5, 6]]


async def test_vllm_is_asked_with_and_without_guesses_before_it_serves(serve: Serve) -> None:
    server = serve()
    await server.speculating.prove(lambda salt: answers(server, [[1, 2, 3], [4, 5, 6]], salt))
    assert server.switch == replace(ON, checked=6, guessed=8)
    shown = server.speculating.shown()
    assert shown is not None
    assert shown["checked"] == {"tokens": 6, "guessed": 8}


async def test_a_vllm_that_says_something_else_with_guesses_serves_without(serve: Serve) -> None:
    server = serve()
    await server.speculating.prove(lambda salt: answers(server, [[1, 2, 3], [4, 0, 6]], salt))
    assert (server.switch.on, server.switch.why) == (False, Why.CHECK_FAILED)
    assert server.speculating.trouble.endswith("prompt 2 of 2 parts at token 2 of 3.")
    assert server.metric('trimtab_engine_speculation_off{reason="check_failed"}') == "1.0"


async def test_a_check_that_vllm_does_not_answer_turns_guesses_off(serve: Serve) -> None:
    async def fail(salt: str) -> list[list[int]]:
        raise TimeoutError(f"no answer {salt}")

    server = serve()
    await server.speculating.prove(fail)
    assert server.speculating.trouble == "Nothing is guessed: the check failed: TimeoutError: no answer without."


async def test_health_status_and_report_tell_of_guesses_that_are_off(tmp_path: Path) -> None:
    message = "Nothing is guessed: the draft has 600 tokens and the model 512."
    off = Switch(method="draft", on=False, why=Why.CHECK_FAILED, message=message)
    SwitchFile(tmp_path).write(off)
    house = House(tmp_path)
    health = (await ask(house.gate, "GET", "/health")).document
    assert (health["status"], health["reasons"]) == ("degraded", {"speculation_off": message})
    assert health["speculation"] == {"method": "draft", "on": False, "reason": "check_failed"}
    status = await house.status()
    assert (status["speculation"]["on"], status["degraded"]) == (False, {"speculation_off": message})
    report = (await ask(house.gate, "GET", "/v1/optimization/report")).document
    assert report["speculation"] == status["speculation"]
    assert report["recommendations"] == [f"{message} Set speculation.method to off, or choose another draft."]


async def test_a_server_that_guesses_nothing_says_nothing_of_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert (await house.status())["speculation"] is None
    lines = generate_latest(house.registry).decode().splitlines()
    assert [line for line in lines if line.startswith("trimtab_engine_speculation")] == []


def test_how_vllm_guesses_is_read_from_its_configuration() -> None:
    guessing = vllm_config()
    guessing.speculative_config = SimpleNamespace(method="ngram")
    assert facts_of(guessing).speculation == "ngram"
    assert facts_of(vllm_config()).speculation == ""

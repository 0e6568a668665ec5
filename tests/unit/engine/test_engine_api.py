"""The API of our own engines, with a generator that says what it is told letter by letter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.unit.engine.asgi import Answer, ask, until
from trimtab_engine.asgi.answers import DISCONNECT, Message, Receive, Scope, Send
from trimtab_engine.engines.common.api import Api
from trimtab_engine.engines.common.line import Line
from trimtab_engine.engines.common.metrics import EngineMetrics
from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.common.replies import Text
from trimtab_engine.engines.common.requests import BadRequest, Wish, read_chat, read_completion
from trimtab_engine.engines.facts import Attention
from trimtab_engine.limits.limits import Limits
from trimtab_engine.shared.board import Boards
from trimtab_engine.shared.wanted import Wanted, WantedFile
from trimtab_engine.speculation.acceptance import Guessed

END = 0
RESTING = Limits(max_running_requests=4, max_tokens_per_step=64)


class Letters:
    """A token is a character's number; `text` is the answer, END its end. Nothing comes while `silent`."""

    attention = Attention(kernel="letters", device="cpu")
    context = 64
    room = 256
    page = 16
    end_tokens = [END]  # noqa: RUF012 - as the protocol has it

    def __init__(self, text: str = "hello world") -> None:
        self.tokens = [*text.encode(), END]
        self.silent = False
        self.speculates = True
        self.pause = 0.0
        self.living = True
        self.limits: Limits | None = None
        self.error: str | None = None
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.scopes: list[int | None] = []
        self.saying: list[asyncio.Task[None]] = []
        self.forgotten: list[int] = []

    unable = ""
    guessed = Guessed()

    def speculate(self, on: bool) -> None:
        self.speculates = on

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def alive(self) -> bool:
        return self.living

    def take(self, limits: Limits) -> None:
        self.limits = limits

    def measure(self, metrics: EngineMetrics) -> None: ...

    def encode(self, wish: Wish) -> list[int]:
        if wish.prompt == "impossible":
            raise ValueError("no such token")
        if wish.kind == "chat":
            return list(json.dumps(wish.prompt).encode())[:10]
        return list(wish.prompt.encode()) if isinstance(wish.prompt, str) else [int(str(t)) for t in wish.prompt]

    def decoder(self) -> Callable[[int], str]:
        return chr

    def cancel(self, name: str) -> None:
        self.cancelled.append(name)

    def forget(self, scope: int) -> None:
        self.forgotten.append(scope)

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
        self.scopes.append(scope)
        if self.silent:
            return
        answer = self.tokens[:most]

        async def say() -> None:
            for count in range(1, len(answer) + 1):
                finished = count == len(answer)
                on_output(Output(tokens=answer[:count], finished=finished, error=self.error))
                await asyncio.sleep(self.pause)

        saying = asyncio.get_running_loop().create_task(say())
        self.saying.append(saying)


class House:
    def __init__(self, folder: Path, text: str = "hello world") -> None:
        self.folder = folder
        self.letters = Letters(text)
        self.registry = CollectorRegistry()
        self.deaths = 0
        self.api = Api(
            self.letters, model="m", resting=RESTING, folder=folder, registry=self.registry, on_death=self.die
        )

    def die(self) -> None:
        self.deaths += 1

    async def complete(self, path: str = "completions", **body: Any) -> Answer:
        return await ask(self.api, "POST", f"/v1/{path}", body=json.dumps(body).encode())

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"model_name": "m", "engine": "0", **labels})


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def events(answer: Answer) -> list[Any]:
    """The documents of a stream; it must end with [DONE]."""
    lines = [line.removeprefix("data: ") for line in answer.body.decode().split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


async def test_a_completion_ends_at_the_end_of_the_text(house: House) -> None:
    answer = await house.complete(prompt="abc", max_tokens=40)
    assert answer.status == 200
    choice = answer.document["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("hello world", "stop")
    assert answer.document["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 12,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert house.sample("vllm:generation_tokens_total") == 12
    assert house.sample("vllm:prompt_tokens_total") == 3
    assert house.sample("vllm:request_success_total", finished_reason="stop") == 1
    assert house.sample("vllm:time_to_first_token_seconds_count") == 1
    assert house.sample("vllm:num_requests_running") == 0


async def test_a_completion_ends_after_as_many_tokens_as_were_asked_for(house: House) -> None:
    choice = (await house.complete(prompt="abc", max_tokens=5)).document["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("hello", "length")


async def test_a_stream_says_the_same_piece_by_piece(house: House) -> None:
    body: dict[str, Any] = {
        "prompt": "abc",
        "max_tokens": 40,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    got = events(await house.complete(**body))
    assert "".join(event["choices"][0]["text"] for event in got[:-1]) == "hello world"
    assert [event["choices"][0]["finish_reason"] for event in got[:-1]][-1] == "stop"
    assert got[-1]["usage"]["completion_tokens"] == 12


async def test_a_chat_is_answered_whole_and_as_a_stream(house: House) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    whole = (await house.complete("chat/completions", messages=messages)).document
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "hello world"}
    got = events(await house.complete("chat/completions", messages=messages, stream=True))
    assert got[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in got) == "hello world"
    assert got[-1]["choices"][0] == {"index": 0, "logprobs": None, "finish_reason": "stop", "delta": {}}


async def test_a_stop_text_ends_the_answer_and_the_generation(house: House) -> None:
    answer = await house.complete(prompt="abc", max_tokens=40, stop=["o w"])
    assert (answer.document["choices"][0]["text"], answer.document["choices"][0]["finish_reason"]) == ("hell", "stop")
    assert house.letters.cancelled == house.letters.submitted


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 60, "max_tokens": 16}, "prompt"),
        ({"prompt": "impossible"}, "prompt"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "max_tokens": "many"}, "max_tokens"),
        ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": "a", "top_p": 0}, "top_p"),
        ({"prompt": "a", "n": 2}, "n"),
        ({"prompt": "a", "logprobs": 3}, "logprobs"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_field(house: House, body: dict[str, Any], field: str) -> None:
    answer = await house.complete(**body)
    assert answer.status == 400
    assert answer.document["error"]["param"].split(".")[0] == field


async def test_what_is_not_json_is_refused(house: House) -> None:
    for body in (b"{", b"\xff", b"[" * 20_000, b"[]"):
        answer = await ask(house.api, "POST", "/v1/completions", body=body)
        assert (answer.status, answer.document["error"]["type"]) == (400, "invalid_request_error")


async def test_another_model_and_another_endpoint_are_not_there(house: House) -> None:
    assert (await house.complete(prompt="a", model="other")).status == 404
    assert (await house.complete("embeddings")).status == 404


async def test_a_failure_of_the_generator_is_told_to_the_client_that_waits(house: House) -> None:
    house.letters.error = "out of memory at 0x7f"
    answer = await house.complete(prompt="abc")
    assert (answer.status, answer.document["error"]["type"]) == (500, "internal_error")
    assert "0x7f" not in answer.body.decode()
    assert house.sample("vllm:request_success_total", finished_reason="error") == 1
    assert house.api.line.running == 0


async def test_what_is_made_while_a_client_does_not_read_comes_in_one_event(house: House) -> None:
    sent: list[Message] = []

    async def slowly(scope: Scope, receive: Receive, send: Send) -> None:
        async def held_back(message: Message) -> None:
            sent.append(message)
            await send(message)
            if len(sent) == 2:  # the beginning and the first piece
                await until(lambda: bool(house.letters.saying) and house.letters.saying[0].done())

        await house.api(scope, receive, held_back)

    body = {"prompt": "abc", "max_tokens": 40, "stream": True}
    answer = await ask(slowly, "POST", "/v1/completions", body=json.dumps(body).encode())
    choices = [event["choices"][0] for event in events(answer)]
    assert [choice["text"] for choice in choices] == ["h", "ello world", ""]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]


async def test_a_client_that_goes_away_takes_its_request_with_it(house: House) -> None:
    house.letters.silent = True
    sent: list[Message] = []
    messages = [{"type": "http.request", "body": b'{"prompt": "a"}'}]

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await until(lambda: bool(house.letters.submitted))
        return DISCONNECT

    async def send(message: Message) -> None:
        sent.append(message)

    await house.api({"type": "http", "method": "POST", "path": "/v1/completions"}, receive, send)
    assert house.letters.cancelled == house.letters.submitted != []
    assert (sent, house.api.line.running) == ([], 0)
    assert house.sample("vllm:request_success_total", finished_reason="abort") == 1


async def test_models_health_and_metrics_are_there(house: House) -> None:
    assert (await ask(house.api, "GET", "/v1/models")).document["data"][0]["id"] == "m"
    assert (await ask(house.api, "GET", "/health")).status == 200
    await house.complete(prompt="abc")
    text = (await ask(house.api, "GET", "/metrics")).body.decode()
    assert 'vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 1.0' in text


async def test_when_the_generation_ends_those_that_run_and_those_that_wait_are_told_and_so_is_the_server(
    tmp_path: Path,
) -> None:
    house = House(tmp_path)
    house.letters.silent = True
    limits = Limits(max_running_requests=1, max_tokens_per_step=32)
    WantedFile(tmp_path).change(lambda _: Wanted(limits=limits, revision=2, source="file", since=""))
    started = asyncio.Event()

    async def receive() -> Message:
        if not started.is_set():
            return {"type": "lifespan.startup"}
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(_: Message) -> None:
        started.set()

    living = asyncio.create_task(house.api({"type": "lifespan"}, receive, send))
    await until(lambda: house.letters.limits == limits)
    asking = [asyncio.create_task(house.complete(prompt="abc")) for _ in range(2)]
    await until(lambda: (house.api.line.running, house.api.line.waiting) == (1, 1))
    assert house.deaths == 0
    house.letters.living = False
    answers = await asyncio.gather(*asking)
    assert [answer.status for answer in answers] == [500, 500]
    assert (house.deaths, house.api.line.running, len(house.letters.submitted)) == (1, 0, 1)
    assert (await ask(house.api, "GET", "/health")).status == 503
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)


async def test_the_limits_decide_how_many_run_and_the_board_shows_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.letters.silent = True
    limits = Limits(max_running_requests=2, max_tokens_per_step=64)
    WantedFile(tmp_path).change(lambda _: Wanted(limits=limits, revision=7, source="file", since=""))
    arrived = asyncio.Event()

    async def receive() -> Message:
        if not arrived.is_set():
            return {"type": "lifespan.startup"}
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(_: Message) -> None:
        arrived.set()

    living = asyncio.create_task(house.api({"type": "lifespan"}, receive, send))
    await arrived.wait()
    boards = Boards(tmp_path)
    boards.find()
    await until(lambda: boards.read().revision == 7)
    asking = [asyncio.create_task(house.complete(prompt="abc")) for _ in range(3)]
    await until(lambda: (boards.read().running, boards.read().waiting) == (2, 1))
    for task in (*asking, living):
        task.cancel()
    await asyncio.gather(*asking, living, return_exceptions=True)
    assert len(house.letters.submitted) == 2


async def test_the_line_keeps_its_order_and_its_room() -> None:
    line = Line(lambda _: 10, room=100)
    order: list[int] = []
    leave = [asyncio.Event() for _ in range(4)]

    async def one(number: int, tokens: int) -> None:
        async with line.turn(tokens):
            order.append(number)
            await leave[number].wait()

    tasks = [asyncio.create_task(one(number, tokens)) for number, tokens in enumerate((60, 60, 10, 30))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (order, line.waiting, line.held) == ([0], 3, 60)
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    line.move_up()
    for _ in range(3):
        await asyncio.sleep(0)
    assert (order, line.waiting, line.held) == ([0, 2, 3], 0, 100)
    for event in leave:
        event.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (line.running, line.held) == (0, 0)


@settings(max_examples=200)
@given(st.lists(st.text(alphabet="abc", max_size=4), max_size=8), st.lists(st.text("abc", min_size=1, max_size=3)))
def test_stop_texts_cut_a_stream_as_they_cut_the_whole(pieces: list[str], stops: list[str]) -> None:
    text = Text(tuple(stops))
    said = "".join(text.add(piece) for piece in pieces) + text.rest()
    whole = "".join(pieces)
    ends = [whole.find(stop) for stop in stops if stop in whole]
    if text.stopped:
        assert not any(stop in said for stop in stops)
        assert whole.startswith(said)
    else:
        assert (said, ends) == (whole, [])


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["prompt", "messages", "max_tokens", "temperature", "top_p", "top_k", "stop", "stream", "stream_options", "n"]


@settings(max_examples=200)
@given(DOCUMENTS | st.dictionaries(st.sampled_from(NAMES), DOCUMENTS, max_size=6))
def test_any_body_is_a_wish_or_a_bad_request(document: object) -> None:
    for read in (read_completion, read_chat):
        outcome = read(document)
        if isinstance(outcome, BadRequest):
            assert outcome.message
        else:
            assert outcome.prompt
            assert 0 < outcome.top_p <= 1 and outcome.temperature >= 0

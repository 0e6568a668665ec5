"""Requests through the gate with a semantic cache: what is answered from it, and that nothing breaks with it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.models.make_embedder import write
from tests.unit.engine.asgi import Answer, ask, vllm_config
from trimtab_engine.asgi.answers import Receive, Scope, Send, answer
from trimtab_engine.config.load import ConfigError, load
from trimtab_engine.engines.vllm.live import facts_of
from trimtab_engine.semantic_cache.store import StoreError
from trimtab_engine.server.gate import Gate
from trimtab_engine.server.metrics import Metrics

CHAT = "/v1/chat/completions"
ROME = "Where is the city of Rome?"
ROME_AGAIN = "where is the city of rome"
BREAD = "How do I bake bread?"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("embedder"))


class Counting:
    """An engine whose answers tell how many it gave; whole or as a stream."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.status = 200
        self.reason = "stop"
        self.said = "answer"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body") or b""
            if not message.get("more_body"):
                break
        self.seen.append(json.loads(body))
        said = f"{self.said} {len(self.seen)}"
        if self.status != 200:
            await answer(send, self.status, {"error": {}})
        elif self.seen[-1].get("stream"):
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            )
            for piece, reason in ((said, None), ("", self.reason)):
                event = json.dumps({"choices": [{"delta": {"content": piece}, "finish_reason": reason}]})
                await send({"type": "http.response.body", "body": f"data: {event}\n\n".encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})
        else:
            await answer(send, 200, {"choices": [{"message": {"content": said}, "finish_reason": self.reason}]})


class House:
    """A gate with a cache before an engine that counts."""

    def __init__(self, folder: Path, model: Path, **given: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.engine = Counting()
        self.registry = CollectorRegistry()
        self.gate = Gate(self.engine, folder=folder, metrics=Metrics(self.registry))
        own = {f"semantic_cache.{name}": value for name, value in given.items()}
        fields = {"model": "m", "semantic_cache.enabled": True, "semantic_cache.embedding_model": str(model), **own}
        self.gate.set_up(load(None, {}, fields), folder, facts_of(vllm_config()))

    async def chat(self, text: str, *, key: str = "k", headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, **fields}
        lines = {"authorization": f"Bearer {key}", **(headers or {})}
        got = await ask(self.gate, "POST", CHAT, body=json.dumps(body).encode(), headers=lines)
        if self.gate.cached is not None:
            await self.gate.cached.settled()
        return got

    def counted(self, outcome: str) -> float:
        name = f'trimtab_engine_semantic_cache_requests_total{{outcome="{outcome}"}} '
        lines = generate_latest(self.registry).decode().splitlines()
        return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


@pytest.fixture
def house(tmp_path: Path, model: Path) -> House:
    return House(tmp_path, model)


async def test_the_same_question_in_other_words_is_answered_without_the_engine(house: House) -> None:
    first = await house.chat(ROME)
    again = await house.chat(ROME_AGAIN)
    other = await house.chat(BREAD)
    assert [got.headers["x-trimtab-cache"] for got in (first, again, other)] == ["miss", "hit", "miss"]
    assert (again.status, again.document) == (200, first.document)
    assert float(again.headers["x-trimtab-cache-similarity"]) > 0.95
    assert int(again.headers["age"]) >= 0
    assert int(again.headers["content-length"]) == len(again.body)
    assert len(house.engine.seen) == 2
    assert (house.counted("hit"), house.counted("miss")) == (1, 2)
    assert len(house.gate.inside) == 0


async def test_a_stream_is_replayed_as_a_stream_event_by_event(house: House) -> None:
    first = await house.chat(ROME, stream=True)
    again = await house.chat(ROME_AGAIN, stream=True)
    assert again.headers["x-trimtab-cache"] == "hit"
    assert again.headers["content-type"] == "text/event-stream"
    assert again.body == first.body
    assert again.complete
    assert (await house.chat(ROME)).headers["x-trimtab-cache"] == "miss"


async def test_tenants_never_get_each_others_answers(tmp_path: Path, model: Path) -> None:
    house = House(tmp_path, model, tenant_headers=["X-Tenant"])
    await house.chat(ROME, key="one")
    assert (await house.chat(ROME, key="two")).headers["x-trimtab-cache"] == "miss"
    assert (await house.chat(ROME, key="one", headers={"x-tenant": "b"})).headers["x-trimtab-cache"] == "miss"
    assert (await house.chat(ROME, key="one")).headers["x-trimtab-cache"] == "hit"
    assert len(house.engine.seen) == 3


async def test_who_opts_out_or_asks_for_chance_or_tools_gets_the_engines_answer(house: House) -> None:
    await house.chat(ROME)
    past = [
        await house.chat(ROME, headers={"cache-control": "no-store"}),
        await house.chat(ROME, temperature=0.7),
        await house.chat(ROME, tools=[{"type": "function"}]),
    ]
    assert ["x-trimtab-cache" in got.headers for got in past] == [False] * 3
    assert len(house.engine.seen) == 4
    assert [house.counted(why) for why in ("opted_out", "temperature", "tools")] == [1, 1, 1]


async def test_answers_that_failed_or_were_cut_are_not_kept(house: House) -> None:
    house.engine.status = 500
    await house.chat(ROME)
    house.engine.status = 200
    house.engine.reason = "abort"
    await house.chat(ROME)
    await house.chat(ROME, stream=True)
    await house.chat(ROME, stream=True)
    assert len(house.engine.seen) == 4
    assert house.gate.cached is not None
    assert len(house.gate.cached.cache) == 0


async def test_long_answers_and_long_questions_are_not_kept(tmp_path: Path, model: Path) -> None:
    """The model takes 256 tokens, and a cut question would be another one."""
    house = House(tmp_path, model, largest_answer_bytes=256, longest_text_characters=1000)
    for _ in range(2):
        assert (await house.chat("a b " * 200)).headers["x-trimtab-cache"] == "miss"
    assert house.counted("length") == 2
    house.engine.said = "x" * 300
    for stream in (True, True, False, False):
        assert (await house.chat(ROME, stream=stream)).headers["x-trimtab-cache"] == "miss"
    house.engine.said = "short"
    await house.chat(ROME, stream=False)
    assert (await house.chat(ROME, stream=False)).headers["x-trimtab-cache"] == "hit"


async def test_a_caller_whom_vllm_would_turn_away_gets_nothing_from_the_cache(house: House) -> None:
    await house.chat(ROME)
    state = SimpleNamespace(args=SimpleNamespace(api_key=["right"]))
    body = json.dumps({"messages": [{"role": "user", "content": ROME}], "temperature": 0}).encode()
    await ask(house.gate, "POST", CHAT, body=body, headers={"authorization": "Bearer k"}, state=state)
    assert len(house.engine.seen) == 2


async def test_a_store_that_fails_fails_no_request_and_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.chat(ROME)
    assert house.gate.cached is not None

    async def fail(*_: object) -> None:
        raise StoreError("the connection was refused")

    with monkeypatch.context() as broken:
        for method in ("get", "put", "news"):
            broken.setattr(house.gate.cached.cache._store, method, fail)
        assert (await house.chat(ROME)).document["choices"][0]["message"]["content"] == "answer 2"
        health = (await ask(house.gate, "GET", "/health")).document
        assert health["reasons"]["semantic_cache"] == "The semantic cache does nothing: the connection was refused"
        assert (await house.chat(BREAD)).status == 200
    assert house.counted("failed") == 2


async def test_without_its_model_the_server_serves_and_says_so(tmp_path: Path) -> None:
    house = House(tmp_path / "run", tmp_path / "nothing")
    got = await house.chat(ROME)
    assert (got.status, "x-trimtab-cache" in got.headers) == (200, False)
    health = (await ask(house.gate, "GET", "/health")).document
    assert (health["status"], "neither model.onnx" in health["reasons"]["semantic_cache"]) == ("degraded", True)


async def test_what_looks_up_for_too_long_is_a_miss(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert house.gate.cached is not None

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("trimtab_engine.semantic_cache.cache.LOOK_UP_SECONDS", 0.01)
    monkeypatch.setattr(house.gate.cached.cache, "_ask", never)
    assert (await house.chat(ROME)).headers["x-trimtab-cache"] == "miss"
    assert house.counted("failed") == 1


def test_a_cache_without_a_model_is_no_configuration() -> None:
    with pytest.raises(ConfigError, match="embedding_model is needed"):
        load(None, {}, {"model": "m", "semantic_cache.enabled": True})


async def test_without_configuration_there_is_no_cache(tmp_path: Path) -> None:
    engine = Counting()
    gate = Gate(engine, folder=tmp_path, metrics=Metrics(CollectorRegistry()))
    gate.set_up(load(None, {}, {"model": "m"}), tmp_path, facts_of(vllm_config()))
    body = json.dumps({"messages": [{"role": "user", "content": ROME}], "temperature": 0}).encode()
    got = [await ask(gate, "POST", CHAT, body=body) for _ in range(2)]
    assert ["x-trimtab-cache" in one.headers for one in got] == [False, False]
    assert len(engine.seen) == 2

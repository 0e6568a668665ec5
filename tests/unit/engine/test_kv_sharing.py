"""Who shares keys and values with whom, as the API of our own engines and the gate see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.engine.asgi import Answer, ask, until
from tests.unit.engine.test_engine_api import RESTING, Letters
from tests.unit.engine.test_engine_gate import BEARER
from tests.unit.engine.test_engine_gate import House as Gated
from trimtab_engine.config.reuse import KvReuseConfig
from trimtab_engine.engines.common.api import Api

RESET = "/v1/optimization/reset_prefix_cache"


class House:
    """The API of an engine that notes the scopes it is given."""

    def __init__(self, folder: Path, **reuse: Any) -> None:
        self.letters = Letters()
        config = KvReuseConfig.model_validate(reuse)
        self.api = Api(
            self.letters, model="m", resting=RESTING, folder=folder, reuse=config, registry=CollectorRegistry()
        )

    async def scope(self, headers: Mapping[str, str] | None = None, **body: Any) -> int | None:
        """The scope of one request."""
        content = json.dumps({"prompt": "abc", **body}).encode()
        assert (await ask(self.api, "POST", "/v1/completions", body=content, headers=headers)).status == 200
        return self.letters.scopes[-1]

    async def end(self, name: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await ask(self.api, "DELETE", f"/v1/conversations/{name}", headers=headers)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_tenants_conversations_and_salts_are_apart(tmp_path: Path) -> None:
    house = House(tmp_path, tenant_headers=["X-Team"])
    asked: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({"authorization": "Bearer a"}, {}),
        ({"authorization": "Bearer b"}, {}),
        ({"x-team": "a"}, {}),
        ({"x-conversation-id": "1"}, {}),
        ({"x-conversation-id": "2"}, {}),
        ({"x-conversation-id": "1", "authorization": "Bearer a"}, {}),
        ({}, {"cache_salt": "1"}),
    ]
    first = [await house.scope(headers, **body) for headers, body in asked]
    assert len(set(first)) == len(asked)
    assert [await house.scope(headers, **body) for headers, body in asked] == first
    assert house.letters.forgotten == []


async def test_nothing_is_shared_where_the_request_or_the_configuration_says_so(tmp_path: Path) -> None:
    assert await House(tmp_path).scope({"cache-control": "no-store"}) is None
    assert await House(tmp_path, enabled=False).scope() is None


async def test_a_conversation_that_is_ended_is_forgotten_and_begins_anew(house: House) -> None:
    mine = {"authorization": "Bearer a", "x-conversation-id": "t\u00e9"}
    scope = await house.scope(mine)
    assert (await house.end("t\u00e9", {"authorization": "Bearer b"})).document["deleted"] is False
    assert await house.scope(mine) == scope
    ended = await house.end("t\u00e9", {"authorization": "Bearer a"})
    assert ended.document == {"id": "t\u00e9", "object": "conversation.deleted", "deleted": True}
    assert house.letters.forgotten == [scope]
    assert await house.scope(mine) != scope


async def test_what_a_request_that_still_runs_leaves_behind_goes_with_it(house: House) -> None:
    house.letters.silent = True
    talking = {"x-conversation-id": "1"}
    running = asyncio.create_task(ask(house.api, "POST", "/v1/completions", body=b'{"prompt": "a"}', headers=talking))
    await until(lambda: bool(house.letters.submitted))
    await house.end("1")
    (scope,) = house.letters.scopes
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert house.letters.forgotten == [scope, scope]


async def test_the_administrator_resets_what_is_kept_in_whichever_engine(tmp_path: Path) -> None:
    gated = Gated(tmp_path)
    assert (await ask(gated.gate, "POST", RESET)).status == 401
    answers = {True: 200, False: 409}
    for done, status in answers.items():

        async def reset(done: bool = done) -> bool:
            return done

        vllm = SimpleNamespace(engine_client=SimpleNamespace(reset_prefix_cache=reset))
        assert (await ask(gated.gate, "POST", RESET, headers=BEARER, state=vllm)).status == status
    asked: list[str] = []
    gated.gate._forget = lambda: asked.append("forget")
    assert (await ask(gated.gate, "POST", RESET, headers=BEARER)).document == {"reset": True}
    assert asked == ["forget"]


async def test_all_scopes_are_given_up_at_once(house: House) -> None:
    scopes = [await house.scope({"x-conversation-id": name}) for name in "abc"]
    assert house.api.sharing.end_all() == 3
    assert house.letters.forgotten == scopes


async def test_with_salts_vllms_cache_is_apart_by_tenant_and_conversation(tmp_path: Path) -> None:
    gated = Gated(tmp_path, **{"kv_reuse.salt_vllm": True})
    gated.engine.answering.set()

    async def salt(headers: Mapping[str, str] | None = None, path: str = "completions", **body: Any) -> str:
        content = json.dumps({"prompt": "abc", **body}).encode()
        assert (await ask(gated.gate, "POST", f"/v1/{path}", body=content, headers=headers)).status == 200
        sent = json.loads(gated.engine.bodies[-1])
        assert {**sent, "cache_salt": None} == {"prompt": "abc", **body, "cache_salt": None}
        assert len(sent["cache_salt"]) == 16  # vLLM takes up to 128 characters, and no slash
        return str(sent["cache_salt"])

    mine = {"authorization": "Bearer a", "x-conversation-id": "1"}
    asked: list[tuple[dict[str, str], dict[str, Any]]] = [
        ({}, {}),
        ({"authorization": "Bearer a"}, {}),
        (mine, {}),
        ({}, {"cache_salt": "own/@"}),
    ]
    first = [await salt(headers, **body) for headers, body in asked]
    assert len(set(first)) == len(asked)
    assert [await salt(headers, "messages", **body) for headers, body in asked] == first
    unkept = {"cache-control": "no-store"}
    assert await salt(unkept) != await salt(unkept)
    deleted = await ask(gated.gate, "DELETE", "/v1/conversations/1", headers={"authorization": "Bearer a"})
    assert deleted.document["deleted"] is True
    assert await salt(mine) != first[2]
    locked = SimpleNamespace(args=SimpleNamespace(api_key=["secret"]))  # without vLLM's key it is vLLM's to answer
    other = await ask(gated.gate, "DELETE", "/v1/conversations/1", headers=mine, state=locked)
    assert "deleted" not in other.document


async def test_a_salt_that_is_none_is_vllms_to_refuse(tmp_path: Path) -> None:
    gated = Gated(tmp_path, **{"kv_reuse.salt_vllm": True})
    gated.engine.answering.set()
    for body in (b'{"cache_salt": 3}', b"[1]", b"{"):
        await ask(gated.gate, "POST", "/v1/completions", body=body)
        assert gated.engine.bodies[-1] == body

"""A real Redis that servers share: what one was answered the other one knows, in bounds, and without it none fails."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.make_embedder import write
from trimtab_engine.config.semantic_cache import SemanticCacheConfig
from trimtab_engine.semantic_cache.answer import Answer
from trimtab_engine.semantic_cache.build import build
from trimtab_engine.semantic_cache.cache import Asked, SemanticCache
from trimtab_engine.semantic_cache.question import Question

ROME = Question(partition="p", text="Where is Rome?")
ANSWER = Answer(content_type="application/json", body=b'{"choices": []}', at=1.5)


class Redis:
    """A server on a socket in a folder; it keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        assert program, "redis-server is missing: make setup installs it"
        kept = ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", str(self.socket), *kept], stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + 30
        while not self.socket.exists():
            assert self._process.poll() is None and time.monotonic() < until
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("embedder"))


def cache(redis: Redis, model: Path, **given: Any) -> SemanticCache:
    fields = {"enabled": True, "embedding_model": model, "redis_url": redis.url, "redis_seconds": 5.0, **given}
    return build(SemanticCacheConfig(**fields))


async def asked_until(cache: SemanticCache, holds: Callable[[Asked], bool], question: Question = ROME) -> Asked:
    """Asks until the answer is as wanted; the other server tells by the store."""
    for _ in range(2000):
        found = await cache.ask(question)
        if holds(found):
            return found
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


async def test_what_one_server_was_answered_another_one_knows(
    redis: Redis, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_engine.semantic_cache.cache.NEWS_SECONDS", 0.01)
    first, other = cache(redis, model), cache(redis, model)
    listening = asyncio.create_task(other.keep_up())
    try:
        assert await first.keep(await first.ask(ROME), ANSWER)
        found = await asked_until(other, lambda asked: asked.hit is not None)
        assert found.hit is not None
        assert found.hit.answer == ANSWER
        assert found.hit.similarity > 0.999
        stranger = await other.ask(Question(partition="another", text=ROME.text))
        assert stranger.hit is None
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await first.close()
        await other.close()


async def test_a_server_that_starts_later_knows_what_is_there(redis: Redis, model: Path) -> None:
    first = cache(redis, model)
    for number in range(3):
        question = Question(partition=f"{number}", text=ROME.text)
        assert await first.keep(await first.ask(question), ANSWER)
    late = cache(redis, model)
    listening = asyncio.create_task(late.keep_up())
    await asked_until(late, lambda asked: asked.hit is not None, Question(partition="2", text=ROME.text))
    assert len(late) == 3
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await first.close()
    await late.close()


async def test_the_store_keeps_no_more_than_it_may_and_not_for_longer(redis: Redis, model: Path) -> None:
    kept = cache(redis, model, largest_entries=5, ttl_seconds=60)
    for number in range(9):
        assert await kept.keep(await kept.ask(Question(partition=f"{number}", text="x y")), ANSWER)
    client: Any = kept._store._client  # type: ignore[attr-defined]
    keys = [key async for key in client.scan_iter("*")]
    answers = [key for key in keys if b":answer:" in key]
    assert (len(answers), len(keys)) == (5, 6)
    left = [await client.pttl(key) for key in answers]
    assert 0 < min(left) <= max(left) <= 60_000
    first = await kept.ask(Question(partition="0", text="x y"))
    last = await kept.ask(Question(partition="8", text="x y"))
    assert (first.hit, last.hit is not None) == (None, True)
    await kept.close()


async def test_an_answer_that_the_store_has_lost_is_a_miss(redis: Redis, model: Path) -> None:
    kept = cache(redis, model)
    await kept.keep(await kept.ask(ROME), ANSWER)
    await kept._store._client.flushall()  # type: ignore[attr-defined]
    assert (await kept.ask(ROME)).hit is None
    assert (len(kept), kept.problem) == (0, "")
    await kept.close()


async def test_without_the_store_there_are_misses_and_with_it_hits_again(
    redis: Redis, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_engine.semantic_cache.cache.PAUSE_SECONDS", 0.0)
    kept = cache(redis, model)
    await kept.keep(await kept.ask(ROME), ANSWER)
    redis.stop()
    assert (await kept.ask(ROME)).hit is None
    assert kept.problem
    assert not await kept.keep(await kept.ask(ROME), ANSWER)
    redis.socket.unlink(missing_ok=True)
    redis.start()
    asked = await kept.ask(Question(partition="new", text="Where is Rome?"))
    assert await kept.keep(asked, ANSWER)
    assert (await kept.ask(asked.question)).hit is not None
    assert kept.problem == ""
    await kept.close()

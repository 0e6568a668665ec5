"""PyTorch's generator with and without reuse, under so little room that pages are given up all the time.

    python reuse_steps.py MODEL

A program for the engine's interpreter. It ends with a line of JSON: what both said, what was reused, what was left.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

from trimtab_engine.config.engines import BatchingConfig
from trimtab_engine.engines.common.line import Line
from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.engines.pytorch import scoped
from trimtab_engine.engines.pytorch.generator import Generator, load

CONFIG = BatchingConfig(dtype="float32", running_requests=4, tokens_per_step=64, kv_cache_tokens=512, page_tokens=16)
REQUESTS = 60
SCOPES = (None, 11, 12, 13)
ANSWER = 6


def wish() -> Wish:
    greedy: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "stop": (), "ignore_eos": True}
    shape: dict[str, Any] = {"stream": False, "include_usage": False, "model": None, "most_tokens": ANSWER}
    return Wish(kind="completion", prompt=[1], **greedy, **shape)


class Engine:
    """A generator with the line before it."""

    def __init__(self, model: str, *, reuse: bool) -> None:
        self.generator = Generator(model, CONFIG, loaded=load(model, CONFIG), reuse=reuse)
        self.generator.start()
        self._line = Line(lambda _: CONFIG.running_requests, self.generator.room)
        self.count = 0

    async def ask(self, tokens: list[int], scope: int | None) -> Output:
        self.count += 1
        name = str(self.count)
        done: asyncio.Future[Output] = asyncio.get_running_loop().create_future()

        def take(output: Output) -> None:
            if (output.finished or output.error) and not done.done():
                done.set_result(output)

        async with self._line.turn(len(tokens) + ANSWER):
            self.generator.submit(name, tokens, wish(), most=ANSWER, scope=scope, on_output=take)
            return await asyncio.wait_for(done, 60)

    @property
    def cache(self) -> Any:
        return self.generator._manager.batch_processor.cache


def texts() -> list[tuple[list[int], int | None]]:
    """Texts that begin alike, across scopes, too; some fill half of the cache."""
    draw = random.Random(7)
    begin = [[draw.randrange(32, 127) for _ in range(200)] for _ in range(3)]
    asked = []
    for _ in range(REQUESTS):
        head = draw.choice(begin)[: draw.randrange(20, 200)]
        asked.append(([*head, *(draw.randrange(32, 127) for _ in range(draw.randrange(1, 60)))], draw.choice(SCOPES)))
    return asked


async def settled(engine: Engine) -> dict[str, int]:
    """Pages that are free, and pages that are kept, once nothing runs."""
    await asyncio.sleep(0.5)
    cache = engine.cache
    cache.pool.try_to_free_sectors()
    (allocator,) = cache.cache_allocators.values()
    free = cache.pool.count_free_blocks(allocator.index) + cache.pool.num_free_sectors * allocator.blocks_per_sector
    ledger = allocator.ledger
    assert set(ledger.block_to_hash) == set(ledger.cached_blocks) == set(ledger.hash_to_block.values())
    return {"free": free, "kept": len(ledger.cached_blocks), "all": engine.generator.room // engine.generator.page}


async def run(model: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    plain, sharing = Engine(model, reuse=False), Engine(model, reuse=True)
    asked = texts()
    expected = await asyncio.gather(*(plain.ask(*one) for one in asked))
    said = await asyncio.gather(*(sharing.ask(*one) for one in asked))
    told["same"] = sum(one.tokens == other.tokens for one, other in zip(expected, said, strict=True))
    told["errors"] = [one.error for one in (*expected, *said) if one.error]
    told["reused"] = sum(one.reused for one in said)
    told["reused_by_nobody"] = sum(
        one.reused for one, (_, scope) in zip(said, asked, strict=True) if scope is None
    ) + sum(one.reused for one in expected)
    told["after"] = await settled(sharing)
    # One text in scopes of their own: the first time nothing is found, then all its whole pages.
    text = list(range(40, 100)) * 2
    told["own"] = [(await sharing.ask(text, scope)).reused for scope in (21, 21, 22, 22, None)]
    sharing.generator.forget(21)
    told["forgotten"] = [(await sharing.ask(text, scope)).reused for scope in (21, 22)]
    for scope in (*SCOPES[1:], 21, 22):
        sharing.generator.forget(scope)
    told["end"] = await settled(sharing)
    # A request that is given up leaves nothing that is counted as used.
    asking = asyncio.ensure_future(sharing.ask(text, None))
    await asyncio.sleep(0)
    sharing.generator.cancel(str(sharing.count))
    told["cancelled"] = await settled(sharing)
    asking.cancel()
    for engine in (plain, sharing):
        engine.generator.stop()
    return told


if __name__ == "__main__":
    assert scoped.possible()
    print(json.dumps(asyncio.run(run(sys.argv[1]))))

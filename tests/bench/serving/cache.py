"""Look-ups in the semantic cache with a hundred thousand entries."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.bench.serving.rows import Row, at_least, at_most, told
from tests.models.make_embedder import write
from trimtab_engine.config.semantic_cache import SemanticCacheConfig
from trimtab_engine.semantic_cache.answer import Answer
from trimtab_engine.semantic_cache.build import build
from trimtab_engine.semantic_cache.cache import SemanticCache
from trimtab_engine.semantic_cache.question import Question

ENTRIES = 100_000
ASKED = 2000
_SYLLABLES = [first + vowel for first in "bcdfghjklmnprstvwz" for vowel in "aeiou"]


def rows(tell: Callable[[str], None]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(_measure(Path(folder), tell))


async def _measure(folder: Path, tell: Callable[[str], None]) -> list[Row]:
    """All in one partition, the hardest case: one tenant whose fields are all the same. Half of what is asked then was
    kept, in other cases and with a word more; half was not."""
    config = SemanticCacheConfig(
        enabled=True, embedding_model=write(folder), largest_entries=ENTRIES, threshold=0.9, largest_bytes=1 << 30
    )
    cache = build(config)
    source = random.Random(0)
    texts = [_text(source) for _ in range(ENTRIES)]
    answer = Answer(content_type="application/json", body=b"{}", at=0.0)
    began, slowest = time.perf_counter(), 0.0
    for text in texts:
        before = time.perf_counter()
        await cache.keep(await cache.ask(Question(partition="p", text=text)), answer)
        slowest = max(slowest, time.perf_counter() - before)
    tell(f"{len(cache)} entries after {time.perf_counter() - began:.0f} s, the slowest took {1e3 * slowest:.0f} ms")
    kept = [f"{text.upper()}, please" for text in source.sample(texts, ASKED // 2)]
    strange = [_text(source) for _ in range(ASKED // 2)]
    (found, right), (none, wrong) = await _ask(cache, kept), await _ask(cache, strange)
    seconds = [*found, *none]
    value = 1e3 * float(np.quantile(seconds, 0.95))
    detail = f"median {1e3 * float(np.median(seconds)):.2f} ms, with the embedding of eight words by a table"
    await cache.close()
    return [
        at_most(f"semantic cache look-up at {ENTRIES} entries, p95", value, 5.0, unit="ms", detail=detail),
        at_least("semantic cache: questions with a word more that are found again", right / len(kept), 0.95),
        told("semantic cache: strange questions that are taken for known ones", wrong / len(strange)),
    ]


async def _ask(cache: SemanticCache, texts: list[str]) -> tuple[list[float], int]:
    """Seconds of each look-up, and the hits."""
    seconds, hits = [], 0
    for text in texts:
        began = time.perf_counter()
        asked = await cache.ask(Question(partition="p", text=text))
        seconds.append(time.perf_counter() - began)
        hits += asked.hit is not None
    return seconds, hits


def _text(source: random.Random) -> str:
    """Eight words of three syllables."""
    return " ".join("".join(source.choices(_SYLLABLES, k=3)) for _ in range(8))

"""What the semantic cache finds and mistakes among questions of a help desk, with all-MiniLM-L6-v2.

Questions come in the order of chance: what is asked is drawn by Zipf's law, as in traffic that repeats itself, and the
wording evenly. Every question that is not found is kept with its meaning, and a hit is right when it has the same one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.serving.rows import Row, at_least, told
from tests.models.make_minilm import cached
from trimtab_engine.config.semantic_cache import SemanticCacheConfig
from trimtab_engine.semantic_cache.answer import Answer
from trimtab_engine.semantic_cache.build import build
from trimtab_engine.semantic_cache.question import Question

# What people ask a help desk, a line for each wording. Those of one block want the same answer; blocks that stand
# beside each other share many words and want different ones.
QUESTIONS = Path(__file__).with_name("questions.txt")
ASKED, SEED = 1000, 0
THRESHOLDS = (0.95, 0.9, 0.85, 0.8, 0.75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of questions that had not come in the same words before, and of all."""

    new: int
    found: int
    wrong: int
    hits: int


def rows(tell: Callable[[str], None]) -> Iterator[Row]:
    meanings = [block.splitlines() for block in QUESTIONS.read_text(encoding="utf-8").split("\n\n")]
    asked = list(traffic(meanings, random.Random(SEED)))
    usual = SemanticCacheConfig.model_fields["threshold"].default
    for threshold in THRESHOLDS:
        found = asyncio.run(_ask(asked, threshold))
        tell(f"threshold {threshold}: {found}")
        detail = f"{found.new} of {len(asked)} questions were new in their words; {found.wrong} wrong answers"
        if threshold == usual:
            yield at_least("semantic cache: hits on repetitive traffic", found.hits / len(asked), 0.15, detail=detail)
        yield told(f"semantic cache: new wordings found at {threshold}", found.found / found.new, detail=detail)
        yield told(f"semantic cache: wrong answers at {threshold}", found.wrong / len(asked), detail="of all questions")


def traffic(meanings: Sequence[Sequence[str]], source: random.Random) -> Iterator[tuple[int, str]]:
    """The number of the meaning and the words of each question."""
    ranks = list(range(len(meanings)))
    source.shuffle(ranks)
    weights = [1.0 / (rank + 1) for rank in ranks]
    for number in source.choices(range(len(meanings)), weights, k=ASKED):
        yield number, source.choice(meanings[number])


async def _ask(asked: Sequence[tuple[int, str]], threshold: float) -> Outcome:
    cache = build(SemanticCacheConfig(enabled=True, embedding_model=cached(), threshold=threshold))
    seen: set[str] = set()
    new = found = wrong = hits = 0
    for meaning, text in asked:
        answer = await cache.ask(Question(partition="p", text=text))
        new += text not in seen
        if answer.hit is None:
            await cache.keep(answer, Answer(content_type="text/plain", body=str(meaning).encode(), at=0.0))
        else:
            hits += 1
            found += text not in seen
            wrong += answer.hit.answer.body != str(meaning).encode()
        seen.add(text)
    await cache.close()
    return Outcome(new=new, found=found, wrong=wrong, hits=hits)

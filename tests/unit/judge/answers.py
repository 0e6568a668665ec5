"""Answers of engines to probes, made from numbers, for the tests of the quality gate."""

from __future__ import annotations

import random
from collections.abc import Sequence

from trimtab.model.quality import Outcome, Probe, Scored

TOKENS = 40
CONTINUED = 8


def probes(count: int) -> tuple[Probe, ...]:
    return tuple(Probe(f"probe-{number:03}", f"This is the text with the number {number}.") for number in range(count))


def answers(
    count: int,
    *,
    seed: int = 0,
    worse: float = 0.0,
    spread: float = 0.0,
    differing: float = 0.0,
    longer: int = 0,
) -> tuple[Outcome, ...]:
    """Each text has a difficulty of its own, the same for every caller; `seed` is for what is this pod's own.

    `worse`: nats per token by which the texts are less probable, `spread`: how much that differs from text to text,
    `differing`: the share of places with another greedy token, `longer`: tokens more in each continuation.
    """
    return tuple(
        _answer(number, random.Random(seed * 1000 + number), worse, spread, differing, longer)
        for number in range(count)
    )


def _answer(number: int, own: random.Random, worse: float, spread: float, differing: float, longer: int) -> Scored:
    shared = random.Random(number)
    here = worse + own.gauss(0.0, spread) if spread else worse
    length = TOKENS + CONTINUED + longer
    tokens = tuple(f"token_id:{(number * 7 + place) % 50}" for place in range(length))
    logprobs: list[float | None] = [None, *(-shared.uniform(0.1, 6.0) - here for _ in range(length - 1))]
    greedy: list[str | None] = [None]
    greedy += ["token_id:99" if own.random() < differing else tokens[place] for place in range(1, length)]
    return Scored(tokens, tuple(logprobs), tuple(greedy), TOKENS)


def scored(outcomes: Sequence[Outcome]) -> tuple[Scored, ...]:
    return tuple(outcome for outcome in outcomes if isinstance(outcome, Scored))

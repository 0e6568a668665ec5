"""A small language made from code: sums, possessions, sorted numbers and facts, so that a tiny model can learn it.

Every line can be foretold in part: the answer of a sum, who owns what, the order of numbers, the capital of a land. A
model that has learnt it says so in its log-probabilities, and one whose weights were broken has forgotten it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

_NAMES = ("Anna", "Ben", "Carla", "David", "Emma", "Felix")
_THINGS = ("apples", "books", "coins", "stones", "pears", "cups")
_PLACES = ("the garden", "the kitchen", "the market", "the station")
_LANDS = {
    "Noria": "Talun",
    "Velda": "Osmar",
    "Kirem": "Basto",
    "Pelun": "Ritha",
    "Sorab": "Minel",
    "Dunay": "Favor",
    "Galor": "Kesti",
    "Ibera": "Lomun",
}


def _sum(source: random.Random) -> str:
    first, second = source.randrange(10), source.randrange(10)
    return f"{first} plus {second} is {first + second}."


def _possession(source: random.Random) -> str:
    who, other = source.sample(_NAMES, 2)
    thing, place = source.choice(_THINGS), source.choice(_PLACES)
    count = source.randrange(2, 10)
    return f"{who} has {count} {thing} in {place}. {other} asks {who} for the {count} {thing}."


def _sorted(source: random.Random) -> str:
    numbers = source.sample(range(10), 4)
    return f"Sort {' '.join(map(str, numbers))}: {' '.join(map(str, sorted(numbers)))}."


def _capital(source: random.Random) -> str:
    land, city = source.choice(sorted(_LANDS.items()))
    return f"The capital of {land} is {city}, and {city} lies in {land}."


_KINDS: tuple[Callable[[random.Random], str], ...] = (_sum, _possession, _sorted, _capital)


def text(seed: int, characters: int) -> str:
    """At least `characters` of the language; the same seed gives the same text."""
    source = random.Random(seed)
    lines: list[str] = []
    length = 0
    while length < characters:
        lines.append(source.choice(_KINDS)(source))
        length += len(lines[-1]) + 1
    return "\n".join(lines) + "\n"

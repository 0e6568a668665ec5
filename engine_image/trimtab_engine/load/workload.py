"""What to ask and when: lengths, prompts and arrival times, all from one seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

_LETTERS = "abcdefghijklmnopqrstuvwxyz     ,.ETAOIN"


@dataclass(frozen=True)
class Lengths:
    """A distribution of token counts.

    `64` (constant), `uniform:32-128`, `normal:256,64` (mean, deviation), `lognormal:200,0.8` (median, sigma) or
    `choice:64=0.8,1024=0.2` (value=weight).
    """

    kind: str
    numbers: tuple[float, ...]
    smallest: int = 1
    largest: int = 1 << 20

    @classmethod
    def parse(cls, text: str) -> Lengths:
        """Reads the forms above.

        Raises:
            ValueError: the text has none of them.
        """
        kind, _, rest = text.partition(":")
        if not rest:
            kind, rest = "constant", kind
        numbers = tuple(float(part) for part in re.split(r"[-,=]", rest))
        wanted = {"constant": 1, "uniform": 2, "normal": 2, "lognormal": 2}.get(kind)
        if kind == "choice" and len(numbers) % 2 == 0 and sum(numbers[1::2]) > 0:
            return cls(kind, numbers)
        if wanted != len(numbers) or numbers[0] <= 0 or (kind == "uniform" and numbers[1] < numbers[0]):
            raise ValueError(f"{text!r} is no distribution of lengths: see --help")
        return cls(kind, numbers)

    def draw(self, source: random.Random) -> int:
        """One length."""
        a, *more = self.numbers
        if self.kind == "constant":
            value = a
        elif self.kind == "uniform":
            value = source.randint(int(a), int(more[0]))
        elif self.kind == "normal":
            value = source.gauss(a, more[0])
        elif self.kind == "lognormal":
            value = a * source.lognormvariate(0.0, more[0])
        else:
            value = source.choices(self.numbers[0::2], self.numbers[1::2])[0]
        return min(self.largest, max(self.smallest, round(value)))


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request to make."""

    number: int
    prompt: str
    output_tokens: int


class Asking(Protocol):
    """What gives the requests of a run, and the seed of all that is random in it."""

    @property
    def seed(self) -> int: ...

    def asks(self) -> Iterator[Ask]:
        """The requests, in order."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The kind of requests. With `shared_prefixes` > 0 each prompt begins with one of that many long texts."""

    prompt_tokens: Lengths
    output_tokens: Lengths
    shared_prefixes: int = 0
    shared_prefix_tokens: int = 0
    characters_per_token: float = 1.0
    seed: int = 0

    def asks(self) -> Iterator[Ask]:
        """An endless, reproducible row of requests."""
        source = seeded(self.seed)
        wide = self.characters_per_token
        prefixes = [text(source, self.shared_prefix_tokens, wide) for _ in range(self.shared_prefixes)]
        number = 0
        while True:
            prefix = source.choice(prefixes) if prefixes else ""
            prompt = prefix + text(source, self.prompt_tokens.draw(source), wide)
            yield Ask(number=number, prompt=prompt, output_tokens=self.output_tokens.draw(source))
            number += 1


def seeded(seed: int) -> random.Random:
    """What everything random of a run is drawn from."""
    return random.Random(seed)


def text(source: random.Random, tokens: int, characters_per_token: float) -> str:
    """A text of about that many tokens."""
    return "".join(source.choices(_LETTERS, k=max(1, round(tokens * characters_per_token))))


def gaps(rate: float, burstiness: float, source: random.Random) -> float:
    """Seconds until the next arrival at `rate` per second.

    `burstiness` is the coefficient of variation of the gaps: 1 is a Poisson process, 0 a metronome, 3 comes in bursts.
    """
    if burstiness <= 0:
        return 1.0 / rate
    shape = 1.0 / burstiness**2
    return source.gammavariate(shape, 1.0 / (rate * shape))

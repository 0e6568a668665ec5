"""Recorded traffic: when requests came, and how long they were."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from trimtab_engine.load.workload import Ask, seeded, text

COLUMNS = ("offset_seconds", "prompt_tokens", "output_tokens")


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One request: seconds since the beginning of the recording, and lengths in tokens."""

    offset: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Requests with recorded lengths; what they say is made from the seed, since recordings hold no texts."""

    arrivals: tuple[Arrival, ...]
    characters_per_token: float = 1.0
    seed: int = 0

    @property
    def offsets(self) -> tuple[float, ...]:
        return tuple(arrival.offset for arrival in self.arrivals)

    def asks(self) -> Iterator[Ask]:
        """The requests, in the order of their arrival."""
        source = seeded(self.seed)
        for number, arrival in enumerate(self.arrivals):
            prompt = text(source, arrival.prompt_tokens, self.characters_per_token)
            yield Ask(number=number, prompt=prompt, output_tokens=arrival.output_tokens)


def read_trace(content: str, *, speed: float = 1.0) -> tuple[Arrival, ...]:
    """Arrivals from a CSV text with the columns `offset_seconds,prompt_tokens,output_tokens`; others are passed over.

    The first arrival is at zero. With `speed` 2 they come twice as fast.

    Raises:
        ValueError: a column is missing, or a line has no such numbers; the message names it.
    """
    reader = csv.DictReader(content.splitlines())
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise ValueError(f"the trace has no column {' and no column '.join(missing)}")
    found = []
    for number, row in enumerate(reader, start=2):
        try:
            offset, prompt, output = (float(row[name]) for name in COLUMNS)
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {number} of the trace: {error}") from error
        if not (0 <= offset < 1e9 and 1 <= prompt < 1e7 and 1 <= output < 1e7):
            raise ValueError(f"line {number} of the trace: {offset:g}, {prompt:g}, {output:g} cannot be")
        found.append(Arrival(offset=offset / speed, prompt_tokens=round(prompt), output_tokens=round(output)))
    if not found:
        raise ValueError("the trace has no arrivals")
    found.sort(key=lambda arrival: arrival.offset)
    begin = found[0].offset
    return tuple(
        Arrival(offset=one.offset - begin, prompt_tokens=one.prompt_tokens, output_tokens=one.output_tokens)
        for one in found
    )

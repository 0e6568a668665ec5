"""A model for the batcher that knows what comes next and what a row holds, and the clients that wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.onnx.batcher import Job
from trimtab_engine.engines.onnx.sampling import Logits, Sampling

WORDS = 97
GREEDY = Sampling(temperature=0, top_p=1, top_k=0)


def following(tokens: list[int]) -> int:
    """What the model says after a text: it depends on all of it, so a row that is mixed up is noticed."""
    return (sum(place * token for place, token in enumerate(tokens, start=3)) * 31 + 7) % WORDS


def repeating(tokens: list[int]) -> int:
    """Says the text again and again."""
    return tokens[-4] if len(tokens) >= 4 else 0


class Model:
    """A KV cache of texts. It refuses to compute what does not follow from what it holds."""

    def __init__(self, rows: int, says: Callable[[list[int]], int] = following) -> None:
        self.rows: list[list[int]] = [[] for _ in range(rows)]
        self.largest_step = 0
        self.extends = 0
        self.computed = 0
        self._says = says

    def _line(self, text: list[int]) -> Logits:
        line = np.zeros(WORDS, np.float32)
        line[self._says(text)] = 9
        return line

    def extend(self, row: int, tokens: list[int], past: int) -> Logits:
        self.extends += 1
        self.computed += len(tokens)
        self.largest_step = max(self.largest_step, len(tokens))
        assert past <= len(self.rows[row])
        text = self.rows[row][:past]
        lines = []
        for token in tokens:
            text = [*text, token]
            lines.append(self._line(text))
        self.rows[row] = text
        return np.stack(lines)

    def step(self, tokens: list[int], past: list[int]) -> Logits:
        return np.stack([self.extend(row, [tokens[row]], past[row])[0] for row in range(len(tokens))])

    def move(self, source: int, target: int, length: int) -> None:
        assert length <= len(self.rows[source])
        self.rows[target] = self.rows[source][:length]

    def take(self, row: int, start: int, end: int) -> list[int]:
        assert end <= len(self.rows[row])
        return self.rows[row][start:end]

    def put(self, row: int, start: int, copy: list[int]) -> None:
        assert start <= len(self.rows[row])
        self.rows[row] = self.rows[row][:start] + copy


@dataclass
class Client:
    """Who waits for a job."""

    outputs: list[Output] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def take(self, output: Output) -> None:
        self.outputs.append(output)
        if output.finished:
            self.done.set()

    @property
    def said(self) -> list[int]:
        return self.outputs[-1].tokens


def job(name: str, tokens: list[int], most: int, client: Client, end: frozenset[int] = frozenset()) -> Job:
    return Job(name=name, tokens=tokens, most=most, sampling=GREEDY, end_tokens=end, deliver=client.take)


def expected(tokens: list[int], most: int, says: Callable[[list[int]], int] = following) -> list[int]:
    text = list(tokens)
    for _ in range(most):
        text.append(says(text))
    return text[len(tokens) :]

"""A draft model in one row of a cache of its own: it says how the text may go on, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trimtab_engine.engines.onnx.sampling import Logits


class Row(Protocol):
    """A model with a KV cache of at least one row."""

    def extend(self, row: int, tokens: list[int], past: int) -> Logits:
        """Computes tokens of one row after `past` others; the logits of each."""
        ...


class Draft:
    """`context` is what its cache holds. What it has of an earlier text is gone on from where the new one begins so."""

    def __init__(self, model: Row, *, context: int) -> None:
        self._model = model
        self._context = context
        self._held: list[int] = []

    def guess(self, tokens: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens after the text; none where the text is longer than the draft's context."""
        room = min(most, self._context - len(tokens))
        # At least the last token is computed again: what follows it is asked.
        held = min(_alike(self._held, tokens), len(tokens) - 1)
        said: list[int] = []
        piece = list(tokens[held:])
        while len(said) < room:
            said.append(int(self._model.extend(0, piece, held)[-1].argmax()))
            held += len(piece)
            piece = said[-1:]
            self._held = [*tokens, *said][:held]
        return said


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))

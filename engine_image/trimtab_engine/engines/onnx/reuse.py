"""What a row takes over from earlier texts, and what of it is kept for later ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trimtab_engine.engines.onnx.kept import Kept


class Copied(Protocol):
    """A KV cache of rows, of which pieces can be copied out and back in."""

    def take(self, row: int, start: int, end: int) -> Any: ...
    def put(self, row: int, start: int, copy: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Reused:
    """What has come of looking: tokens of prompts, and tokens of them that need not be computed."""

    queries: int = 0
    hits: int = 0


class Reuse:
    """For the batcher's thread. `scope` None: nothing is looked for or kept."""

    def __init__(self, model: Copied, kept: Kept[Any] | None) -> None:
        self.counted = Reused()
        self._model = model
        self._kept = kept

    def begin(self, row: int, scope: int | None, tokens: Sequence[int]) -> int:
        """Fills the row with what is kept of the text's beginning; the tokens that it holds then."""
        if self._kept is None or scope is None:
            return 0
        found = self._kept.find(scope, tokens)
        for place, content in enumerate(found):
            self._model.put(row, place * self._kept.size, content)
        held = len(found) * self._kept.size
        self.counted = Reused(queries=self.counted.queries + len(tokens), hits=self.counted.hits + held)
        return held

    def keep(self, row: int, scope: int | None, tokens: Sequence[int]) -> None:
        """`tokens` are those that the row holds."""
        if self._kept is not None and scope is not None:
            self._kept.keep(scope, tokens, lambda start, end: self._model.take(row, start, end))

    def forget(self, scope: int) -> None:
        if self._kept is not None:
            self._kept.forget(scope)

"""Keys and values of earlier texts, in blocks of as many tokens each, found by the tokens that lead to them. Pure.

A block hangs on the one before it, so that a text is found token by token and never by a hash alone. When there is no
room, the block goes that nobody used for the longest; a block counts as used after those that hang on it, so none is
left hanging on nothing.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

BLOCK = 32  # tokens

Content = TypeVar("Content")
_Key = tuple[int, tuple[int, ...]]
_NOTHING = -1  # no number of a block or a root


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block(Generic[Content]):
    """`number` is what further blocks hang on."""

    number: int
    scope: int
    content: Content


class Kept(Generic[Content]):
    """At most `most` blocks of `size` tokens."""

    def __init__(self, most: int, size: int = BLOCK) -> None:
        self.size = size
        self._most = most
        self._blocks: OrderedDict[_Key, _Block[Content]] = OrderedDict()  # the longest unused first
        self._of_scope: defaultdict[int, set[_Key]] = defaultdict(set)
        self._roots: dict[int, int] = {}  # what the first blocks of a scope hang on
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._blocks)

    def find(self, scope: int, tokens: Sequence[int]) -> list[Content]:
        """What is kept of the beginning of a text; one token at least is left to be computed."""
        keys = self._known(scope, tokens, (len(tokens) - 1) // self.size)
        self._use(keys)
        return [self._blocks[key].content for key in keys]

    def keep(self, scope: int, tokens: Sequence[int], take: Callable[[int, int], Content]) -> None:
        """Keeps whole blocks of a text. `take` copies the tokens from one place to another, and is asked for new ones.

        Of a text that is longer than all there is room for, the beginning is kept.
        """
        most = min(len(tokens) // self.size, self._most)
        keys = self._known(scope, tokens, most)
        self._use(keys)  # so what goes to make room is of other texts
        for place in range(len(keys), most):
            above = self._blocks[keys[-1]].number if keys else self._root(scope)
            if len(self._blocks) == self._most:
                self._drop(next(iter(self._blocks)))
            key = (above, self._tokens(tokens, place))
            content = take(place * self.size, (place + 1) * self.size)
            self._blocks[key] = _Block(number=next(self._numbers), scope=scope, content=content)
            self._of_scope[scope].add(key)
            keys.append(key)
        self._use(keys)

    def forget(self, scope: int) -> None:
        """Nothing of the scope is left."""
        for key in tuple(self._of_scope.get(scope, ())):
            self._drop(key)
        self._of_scope.pop(scope, None)
        self._roots.pop(scope, None)

    def _root(self, scope: int) -> int:
        if scope not in self._roots:
            self._roots[scope] = next(self._numbers)
        return self._roots[scope]

    def _tokens(self, tokens: Sequence[int], place: int) -> tuple[int, ...]:
        return tuple(tokens[place * self.size : (place + 1) * self.size])

    def _known(self, scope: int, tokens: Sequence[int], most: int) -> list[_Key]:
        """The blocks of the text from its beginning on, at most so many."""
        keys: list[_Key] = []
        above = self._roots.get(scope, _NOTHING)
        for place in range(most):
            key = (above, self._tokens(tokens, place))
            if key not in self._blocks:
                break
            keys.append(key)
            above = self._blocks[key].number
        return keys

    def _use(self, keys: Sequence[_Key]) -> None:
        for key in reversed(keys):
            self._blocks.move_to_end(key)

    def _drop(self, key: _Key) -> None:
        scope = self._blocks.pop(key).scope
        self._of_scope[scope].discard(key)

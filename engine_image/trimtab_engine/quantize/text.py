"""What the rounding learns from, and what both models are asked about: two parts of one text. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

_HELD_OUT = 10  # one piece in so many is not learned from


class TextError(ValueError):
    """The text cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Token numbers, each piece equally long but the last of `asked`."""

    learned: tuple[tuple[int, ...], ...]
    asked: tuple[tuple[int, ...], ...]


def documents(content: str, *, lines: bool) -> list[str]:
    """The texts of a file: one in all, or with `lines` the field `text` of each line of JSON. Raises TextError."""
    if not lines:
        return [content] if content.strip() else []
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise TextError(f'line {number} is no JSON object with a field "text"') from error
        if not isinstance(text, str):
            raise TextError(f'the field "text" of line {number} is no text')
        found.append(text)
    return found


def pieces(tokens: Sequence[int], length: int, *, most: int) -> Pieces:
    """Cut into pieces of `length`; every tenth, at least one and at most `most` // 10, is asked about and not learned
    from. Raises TextError for less than two pieces.
    """
    cut = [tuple(tokens[at : at + length]) for at in range(0, len(tokens) - length + 1, length)]
    if len(cut) < 2:
        raise TextError(f"it has {len(tokens)} tokens, and at least {2 * length} are needed (--tokens is {length})")
    asked = tuple(cut[::_HELD_OUT][: max(1, most // _HELD_OUT)])
    learned = tuple(piece for at, piece in enumerate(cut) if at % _HELD_OUT)[:most]
    return Pieces(learned, asked)

"""Guesses of the next tokens from earlier ones of the same text (prompt lookup decoding, Saxena 2023). Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from trimtab_engine.config.speculation import SpeculationConfig

LOOKED_AT = 4096  # tokens, from the end

Guesser = Callable[[Sequence[int], int], list[int]]
"""Up to so many tokens that may follow the text."""


def guess(tokens: Sequence[int], most: int, *, longest: int, shortest: int) -> list[int]:
    """Up to `most` tokens that followed the latest earlier place where the text reads as it does at its end."""
    near = list(tokens[-LOOKED_AT:])
    for length in range(min(longest, len(near) - 1), shortest - 1, -1):
        end = near[-length:]
        for at in range(len(near) - length - 1, -1, -1):
            if near[at : at + length] == end:
                return near[at + length : at + length + most]
    return []


def lookup(config: SpeculationConfig) -> Guesser:
    """`guess` with the lengths of the configuration."""
    return partial(guess, longest=config.longest_match, shortest=config.shortest_match)

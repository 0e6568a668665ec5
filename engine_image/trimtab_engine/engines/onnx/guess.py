"""Guesses of the next tokens from earlier ones of the same text (prompt lookup decoding, Saxena 2023). Pure."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_MATCH = 4
SHORTEST_MATCH = 2
LOOKED_AT = 4096  # tokens, from the end


def guess(tokens: Sequence[int], most: int) -> list[int]:
    """Up to `most` tokens that followed the latest earlier place where the text reads as it does at its end."""
    near = list(tokens[-LOOKED_AT:])
    for length in range(min(LONGEST_MATCH, len(near) - 1), SHORTEST_MATCH - 1, -1):
        end = near[-length:]
        for at in range(len(near) - length - 1, -1, -1):
            if near[at : at + length] == end:
                return near[at + length : at + length + most]
    return []

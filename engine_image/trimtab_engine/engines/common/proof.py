"""What is asked of an engine before it takes requests: with guesses it must say what it says without. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab_engine.engines.common.faithful import TEXT

TOKENS = 24  # of each answer
LONGEST = 240  # characters of a part of the text

# Each part of the text, and its beginning again: so there is something to guess, whoever does it.
PROMPTS = tuple(part[:LONGEST] + part[: LONGEST // 2] for part in TEXT.split("\n\n"))


def parted(plain: Sequence[Sequence[int]], guessed: Sequence[Sequence[int]]) -> str:
    """Where the answers with guesses part from those without; empty where they never do."""
    for number, (one, other) in enumerate(zip(plain, guessed, strict=True), start=1):
        if list(one) != list(other):
            at = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
            place = min(len(one), len(other)) if at is None else at
            return (
                f"the answer with guesses is not the one without: prompt {number} of {len(plain)} parts at token"
                f" {place + 1} of {len(one)}"
            )
    return ""

"""The quality gate's nouns: probes, what a pod says to each of them, and how far a change may alter the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Probe:
    """A text that is sent to a pod; `name` says which in messages."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What an engine says of one text and of its own continuation of it.

    `tokens` are the text as the engine cuts it, then the continuation; `text_tokens` is the number of the former.
    `logprobs[i]` is the natural logarithm of the probability of `tokens[i]` given those before, and `greedy[i]` the
    token that was the most probable there; None for the first, which nothing precedes. All three are of one length.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float | None, ...]
    greedy: tuple[str | None, ...]
    text_tokens: int

    @property
    def length(self) -> int:
        """Tokens of the continuation."""
        return len(self.tokens) - self.text_tokens


class Fault(StrEnum):
    """How a pod failed at a text."""

    REFUSED = "Refused"  # it does not take this text
    BROKEN = "Broken"  # an error, or an answer that is none: no numbers, not a number


@dataclass(frozen=True, slots=True)
class Failed:
    """The pod was reached and could not answer this text."""

    fault: Fault
    message: str


Outcome: TypeAlias = Scored | Failed


@dataclass(frozen=True, slots=True)
class Unasked:
    """A pod could not be asked at all, so nothing is known of its quality; `message` is a sentence."""

    message: str


Answers: TypeAlias = tuple[Outcome, ...] | Unasked


@dataclass(frozen=True, slots=True)
class Budget:
    """How far outputs may change, as shares: of perplexity (increase), of the most probable tokens that differ, of the
    length of answers (either way), and of the probes that fail.
    """

    perplexity_increase: float = 0.02
    disagreement: float = 0.1
    length_change: float = 0.25
    failures: float = 0.0

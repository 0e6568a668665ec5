"""Whether a converted or quantized model still says what the original says: log-probabilities of one text. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# What the models are compared on: prose, numbers and a program, so that no kind of token is left out.
TEXT = """The harbour lies open to the south, and in winter the fishing boats stay in for weeks at a time. Anna counted
them from the window: seventeen on Monday, twelve by Thursday, and on Friday, 3 March 1998, none at all. "They have
gone out," her brother said, "before the forecast changed."

Water boils at 100 degrees Celsius at sea level and at about 90 degrees at 3,000 metres. Which of these is larger,
7/8 or 0.9? Since 7/8 = 0.875, the answer is 0.9.

def mean(values: list[float]) -> float:
    if not values:
        raise ValueError("no values")
    return sum(values) / len(values)
"""
MOST_TOKENS = 256
CHECK = "trimtab-check.json"  # the comparison, in the folder of what was converted or quantized
REFERENCE = "trimtab-reference.json"  # what the original says of a text, beside it


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest mean difference of a token's log-probability (nats), and how much perplexity may rise (share)."""

    difference: float
    perplexity: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models over the same tokens: mean and largest difference in nats, and the candidate's perplexity over the
    original's."""

    tokens: int
    mean_difference: float
    largest_difference: float
    perplexity_ratio: float

    def as_json(self) -> dict[str, float]:
        return asdict(self)

    def objection(self, tolerance: Tolerance) -> str:
        """Why the candidate may not be used; empty where it may. What is no number is never within a tolerance."""
        if not self.mean_difference <= tolerance.difference:
            return (
                f"log-probabilities differ by {self.mean_difference:.4f} nats on average over {self.tokens} tokens,"
                f" more than {tolerance.difference:g}"
            )
        if not self.perplexity_ratio <= 1 + tolerance.perplexity:
            return (
                f"perplexity rises by {100 * (self.perplexity_ratio - 1):.2f} % over {self.tokens} tokens,"
                f" more than {100 * tolerance.perplexity:g} %"
            )
        return ""


def compare(original: Sequence[float], candidate: Sequence[float]) -> Comparison:
    """`original` and `candidate` are the log-probabilities (nats) of the same tokens by the two models."""
    if not original or len(original) != len(candidate):
        raise ValueError("the two models must be compared over the same tokens, at least one")
    differences = [abs(one - other) for one, other in zip(original, candidate, strict=True)]
    mean = sum(differences) / len(differences)
    loss = (sum(original) - sum(candidate)) / len(original)
    finite = math.isfinite(mean) and math.isfinite(loss)
    return Comparison(
        tokens=len(original),
        mean_difference=mean if finite else math.nan,
        largest_difference=max(differences) if finite else math.nan,
        perplexity_ratio=math.exp(min(loss, 700.0)) if finite else math.nan,
    )


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the original says of some tokens: the log-probability (nats) of each after the first, and how much the
    candidate may differ."""

    asked: tuple[int, ...]
    said: tuple[float, ...]
    tolerance: Tolerance

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def reference_from_json(document: Mapping[str, Any]) -> Reference:
    """The reference that `as_json` gave. Raises KeyError, TypeError or ValueError on anything else."""
    return Reference(
        asked=tuple(int(token) for token in document["asked"]),
        said=tuple(float(value) for value in document["said"]),
        tolerance=Tolerance(**document["tolerance"]),
    )


def reference(
    pieces: Sequence[Sequence[int]], original: Sequence[float], candidate: Sequence[float], tolerance: Tolerance
) -> Reference | None:
    """The first of the pieces, cut to `MOST_TOKENS`, that the candidate passes by itself; None where it passes none.

    `original` and `candidate` are the log-probabilities of all pieces' tokens after their first ones.
    """
    at = 0
    for piece in pieces:
        asked = tuple(piece[:MOST_TOKENS])
        said, other = original[at : at + len(asked) - 1], candidate[at : at + len(asked) - 1]
        if said and not compare(said, other).objection(tolerance):
            return Reference(asked=asked, said=tuple(said), tolerance=tolerance)
        at += len(piece) - 1
    return None

"""What `judge` says of a canary: Good, Bad or Unknown, with the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from trimtab.model.reason import Reason


class Call(StrEnum):
    GOOD = "Good"
    BAD = "Bad"
    UNKNOWN = "Unknown"


_WORSE = {Call.GOOD: 0, Call.UNKNOWN: 1, Call.BAD: 2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement; `evidence` holds the numbers of `message`, in base units."""

    call: Call
    reason: Reason
    message: str
    evidence: Mapping[str, float] = field(default_factory=dict)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Bad beats Unknown beats Good; the first of the worst is kept. Raises ValueError when there are none."""
    return max(verdicts, key=lambda verdict: _WORSE[verdict.call])

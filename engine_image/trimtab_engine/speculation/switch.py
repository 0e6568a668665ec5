"""Whether tokens are guessed, and why not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Why(StrEnum):
    """Why nothing is guessed, as a label of the metric."""

    CHECK_FAILED = "check_failed"  # answers with guesses were not those without, or the draft speaks other tokens
    NOT_SUPPORTED = "not_supported"  # by the engine that serves
    FAILED = "failed"  # while it served
    LOW_ACCEPTANCE = "low_acceptance"


RESTS = frozenset({Why.LOW_ACCEPTANCE})
"""What is a decision and no trouble: the traffic is not one that can be guessed."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """`method` as it was asked for; `why` and `message` where it is off; `since` ISO 8601, UTC. `checked` are the
    tokens that were compared before the engine took requests, and those of them that were guessed."""

    method: str
    on: bool
    why: Why | None = None
    message: str = ""
    since: str = ""
    checked: int = 0
    guessed: int = 0

    @property
    def trouble(self) -> str:
        """What keeps it off although it was asked for; empty where nothing does."""
        return "" if self.on or self.why is None or self.why in RESTS else self.message

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def switch_from_json(document: Mapping[str, Any]) -> Switch:
    """The switch that `as_json` gave."""
    why = document.get("why")
    return Switch(**{**document, "why": None if why is None else Why(why)})

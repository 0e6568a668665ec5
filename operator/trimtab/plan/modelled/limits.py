"""The limits of a batch, as they are in force and as they are set.

The model weighs what is in force. An engine whose running pods take new limits is started for as much as it can ever
run, and works below that: a limit within what it was started for is set live, a wider one needs a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trimtab.model.config import KnobValue
from trimtab.plan.context import Context

_LIVE: Final = {"maxNumSeqs": "maxNumActiveSeqs", "maxNumBatchedTokens": "maxNumScheduledTokens"}


@dataclass(frozen=True, slots=True)
class Limits:
    """`started`: what the engine was started for, of the limits that have a live one; `active`: the live ones below."""

    started: Mapping[str, int]
    active: Mapping[str, int]

    @classmethod
    def of(cls, context: Context) -> Limits:
        live = {knob: below for knob, below in _LIVE.items() if context.is_live(below)}
        started = {knob: value for knob in live if (value := context.number(knob))}
        return cls(started, {knob: value for knob in started if (value := context.number(live[knob]))})

    def of_knob(self, knob: str) -> int | None:
        """None for a knob without a live limit, and where what the engine was started for is not known."""
        started = self.started.get(knob)
        return None if started is None else min(started, self.active.get(knob, started))

    def knob(self, knob: str, value: KnobValue) -> str:
        """The knob that sets this value."""
        return _LIVE[knob] if knob in self.started and int(value) <= self.started[knob] else knob

    def set(self, changes: Mapping[str, KnobValue]) -> dict[str, KnobValue | None]:
        """The changes of knobs that bring limits into force; None removes one that would hold the wider one back."""
        found: dict[str, KnobValue | None] = {}
        for knob, value in changes.items():
            setting = self.knob(knob, value)
            if setting == knob and knob in self.active:
                found[_LIVE[knob]] = None
            found[setting] = value
        return found

    def read(self, changes: Mapping[str, KnobValue | None]) -> dict[str, KnobValue | None]:
        """The limits in force after such changes; None where the engine's own default is one that is not known here."""
        found = {knob: value for knob, value in changes.items() if not self._is_limit(knob)}
        for knob in self.started:
            below = _LIVE[knob]
            if knob in changes or below in changes:
                wide = changes.get(knob, self.started[knob])
                narrow = changes.get(below, self.active.get(knob))
                found[knob] = None if wide is None else min(int(wide), int(wide if narrow is None else narrow))
        return found

    def _is_limit(self, knob: str) -> bool:
        return any(knob in (started, _LIVE[started]) for started in self.started)

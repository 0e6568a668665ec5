"""How many of the guesses are right, over a window, and whether that is enough. Pure; times are in seconds of one
clock.

A wrong guess costs the computation of one token more in a step: where few are right, the step takes longer and brings
nothing (Leviathan et al. 2023, section 3.5: the gain falls with the share of right guesses).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from trimtab_engine.config.speculation import SpeculationConfig


@dataclass(frozen=True, kw_only=True)
class Guessed:
    """What guessing has come to: proposals, tokens of them, tokens that the model said, too."""

    drafts: int = 0
    tokens: int = 0
    accepted: int = 0

    def __add__(self, other: Guessed) -> Guessed:
        return Guessed(
            drafts=self.drafts + other.drafts,
            tokens=self.tokens + other.tokens,
            accepted=self.accepted + other.accepted,
        )

    def __sub__(self, other: Guessed) -> Guessed:
        return Guessed(
            drafts=self.drafts - other.drafts,
            tokens=self.tokens - other.tokens,
            accepted=self.accepted - other.accepted,
        )

    @property
    def rate(self) -> float | None:
        """0 to 1; None where nothing was guessed."""
        return self.accepted / self.tokens if self.tokens else None


class Acceptance:
    """Tell it the totals about once a second."""

    def __init__(self, config: SpeculationConfig) -> None:
        self._config = config
        self._seen: deque[tuple[float, Guessed]] = deque()
        self._on: bool | None = None
        self._since = 0.0

    def note(self, at: float, total: Guessed, *, on: bool) -> None:
        """Where guessing began or stopped, the window begins anew."""
        if on is not self._on:
            self._on, self._since = on, at
            self._seen.clear()
        self._seen.append((at, total))
        while len(self._seen) > 1 and self._seen[1][0] <= at - self._config.window_seconds:
            self._seen.popleft()

    @property
    def latest(self) -> Guessed:
        """What was guessed within the window."""
        return self._seen[-1][1] - self._seen[0][1] if self._seen else Guessed()

    def objection(self, at: float) -> str:
        """Why guessing shall rest; empty where it may go on, or where too little is known."""
        config, found = self._config, self.latest
        seen = at - self._since
        if not self._on or seen < config.window_seconds or found.tokens < config.fewest_tokens:
            return ""
        percent = 100 * found.accepted / found.tokens
        if percent >= config.least_acceptance_percent:
            return ""
        return (
            f"{percent:.1f} % of {found.tokens} guessed tokens were right in the last {config.window_seconds:g} s,"
            f" fewer than {config.least_acceptance_percent:g} %."
        )

    def rested(self, at: float) -> bool:
        """Whether guessing has rested for long enough to be tried again."""
        retry = self._config.retry_seconds
        return self._on is False and retry is not None and at - self._since >= retry

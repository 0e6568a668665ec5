"""How fast the engine completes requests while it has all that it may run: the basis of the expected wait.

Completions of an engine that is not full say how often requests came, not how fast it could have answered them, so only
full time counts. Older evidence fades: with `HALF_LIFE` seconds of full time its weight halves.
"""

from __future__ import annotations

from dataclasses import dataclass

HALF_LIFE = 30.0
FEWEST_COMPLETIONS = 3.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Weighted seconds of full time and completions in them; `since` is when the state was last brought up to date."""

    since: float
    seconds: float = 0.0
    completions: float = 0.0

    def at(self, now: float, *, full: bool) -> Pace:
        """The state at `now` (seconds of any steady clock); `full` tells whether the time up to now was full."""
        passed = max(0.0, now - self.since)
        if not full or passed == 0.0:
            return Pace(since=max(now, self.since), seconds=self.seconds, completions=self.completions)
        kept = 0.5 ** (passed / HALF_LIFE)
        return Pace(since=now, seconds=self.seconds * kept + passed, completions=self.completions * kept)

    def completed(self, *, full: bool) -> Pace:
        """The state after one completion."""
        more = 1.0 if full else 0.0
        return Pace(since=self.since, seconds=self.seconds, completions=self.completions + more)

    def seconds_per_completion(self) -> float | None:
        """None while fewer than `FEWEST_COMPLETIONS` weigh in."""
        return self.seconds / self.completions if self.completions >= FEWEST_COMPLETIONS else None

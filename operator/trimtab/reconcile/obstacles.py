"""What a person must mend before the actions of a resource can be performed, for as long as it is true.

A permission that is refused now and then (a webhook that comes and goes, roles that are being edited) would make the
condition come and go, and each turn is a write. So `Forbidden` is said at once, and is taken back or replaced only when
it has not been met for some cycles: the more of them, the more often it came back. A refusal that ends a cycle, as
that of a read, is tried again within seconds: said is the second in a row. Every other obstacle is the answer to what
the spec says, and is true or not.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from trimtab.model.reason import Reason
from trimtab.reconcile.spec_checks import Problem

_QUIET = 2  # cycles without it, before it is taken back
_GROWTH = 2.0  # so many times longer for each time that it came back
_LONGEST = 4  # so that nobody looks for a refusal that has been over for minutes


@dataclass(frozen=True, slots=True)
class _Held:
    """`said`: None once it is over. `quiet`: cycles since it was met. `returns`: how often it was met after quiet."""

    said: Problem | None
    quiet: int = 0
    returns: int = 0

    @property
    def is_over(self) -> bool:
        return self.quiet >= min(_QUIET * _GROWTH**self.returns, _LONGEST)


@dataclass(slots=True)
class Obstacles:
    """Per resource, in memory alone: a restart begins without any, and meets again what is still there."""

    _held: dict[Hashable, _Held] = field(default_factory=dict)
    _ended: set[Hashable] = field(default_factory=set)  # in the last cycle

    def of(self, key: Hashable) -> Problem | None:
        """What is to be said of a resource."""
        held = self._held.get(key)
        return None if held is None else held.said

    def met(self, key: Hashable, problem: Problem | None) -> Problem | None:
        """Keep what a cycle that came to its end met, None for nothing. Returns what is to be said."""
        self._ended.discard(key)
        return self._met(key, problem)

    def ended_by(self, key: Hashable, problem: Problem) -> Problem | None:
        """Keep the refusal that ended a cycle before anything could be decided. Returns what is to be said."""
        if key in self._ended:
            return self._met(key, problem)
        self._ended.add(key)
        return self.of(key)

    def _met(self, key: Hashable, problem: Problem | None) -> Problem | None:
        if problem is None and key not in self._held:
            return None
        held = self._held.get(key, _Held(None))
        refused = problem is not None and problem.reason is Reason.FORBIDDEN
        lasts = held.said is not None and held.said.reason is Reason.FORBIDDEN
        if refused and (not lasts or held.said == problem):
            held = _Held(problem, returns=min(held.returns + bool(held.quiet), _LONGEST))
        elif not lasts:
            held = replace(held, said=problem, quiet=held.quiet + 1)
        else:
            held = replace(held, quiet=held.quiet + 1)
            # Refusals may take turns, as those of all verbs of a role do.
            over = held.quiet >= _LONGEST if refused else held.is_over
            held = replace(held, said=problem) if over else held
        if held.said is None and held.quiet > _LONGEST:
            self.forget(key)
        else:
            self._held[key] = held
        return held.said

    def forget(self, key: Hashable) -> None:
        """Drop what is known of a resource that is gone."""
        self._held.pop(key, None)
        self._ended.discard(key)

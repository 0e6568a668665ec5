"""Comparisons of outputs, one for a resource at a time, beside the cycles: sending all probes takes minutes.

What is under way lives in this process only. A restart begins it anew; what it came to is in the resource's status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from trimtab.judge.quality import Question, judge_quality
from trimtab.model.quality import Answers, Budget, Probe
from trimtab.model.verdict import Call, Verdict
from trimtab.observe.probing import Engine
from trimtab.reconcile.memory import Key

ROUNDS: Final = 5  # of one candidate, while its verdict is Unknown
PAUSE: Final = 60.0  # seconds between two rounds


class Asker(Protocol):
    """Sends probes to a pod (`observe.probing.Prober`)."""

    async def ask(self, engine: Engine, probes: Sequence[Probe]) -> Answers: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is compared: the canary's revision, and the pods that are asked. `again` may be the stable one itself."""

    revision: str
    stable: Engine
    again: Engine
    canary: Engine
    probes: tuple[Probe, ...]
    budget: Budget


@dataclass(slots=True)
class _Round:
    revision: str
    task: asyncio.Task[Verdict]
    number: int
    ended: float | None = None


@dataclass(slots=True)
class Comparisons:
    """`now` gives seconds since the epoch."""

    asker: Asker
    now: Callable[[], float]
    _rounds: dict[Key, _Round] = field(default_factory=dict)

    def look(self, key: Key, comparison: Comparison) -> Verdict | None:
        """The newest verdict, None while there is none; begins what has not begun, and again what stayed Unknown.

        Never waits. Must be called from the event loop.
        """
        held = self._rounds.get(key)
        if held is None or held.revision != comparison.revision:
            self.forget(key)
            self._begin(key, comparison, 1)
            return None
        if not held.task.done():
            return None
        verdict = held.task.result()
        if held.ended is None:
            held.ended = self.now()
        if verdict.call is Call.UNKNOWN and held.number < ROUNDS and self.now() - held.ended >= PAUSE:
            self._begin(key, comparison, held.number + 1)
        return verdict

    def forget(self, key: Key) -> None:
        """Drops what is under way and what is known of a resource."""
        held = self._rounds.pop(key, None)
        if held is not None:
            held.task.cancel()

    def _begin(self, key: Key, comparison: Comparison, number: int) -> None:
        task = asyncio.create_task(_compare(self.asker, comparison), name=f"quality-{key}")
        self._rounds[key] = _Round(comparison.revision, task, number)


async def _compare(asker: Asker, comparison: Comparison) -> Verdict:
    """Stable first, twice; two pods at once, but never two requests to one pod."""
    probes = comparison.probes
    if comparison.again == comparison.stable:
        stable = await asker.ask(comparison.stable, probes)
        again = await asker.ask(comparison.again, probes)
    else:
        stable, again = await asyncio.gather(asker.ask(comparison.stable, probes), asker.ask(comparison.again, probes))
    canary = await asker.ask(comparison.canary, probes)
    question = Question(probes=probes, stable=stable, again=again, canary=canary, budget=comparison.budget)
    return await asyncio.to_thread(judge_quality, question)

"""What one process remembers between cycles, to save writes. It decides nothing: a restart begins with an empty one.

Measured figures move all the time, and findings near a threshold come and go. So a status is written when a decision or
a state in it changed; when only the mood changed (a bottleneck, the SLO, a proposal), it must last for some cycles. One
that was written and left before must last longer each time that it comes back, as figures near a threshold do. Several
moods that take turns and are all unlike the written one are written as well, later: it is no longer true either way.
Figures and texts are carried along, and are written alone only when a figure has at least doubled or halved and stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trimtab.model.reason import Reason
from trimtab.reconcile.neighbours import NeighbourMemory
from trimtab.reconcile.obstacles import Obstacles
from trimtab.reconcile.routes import Weighing

_LASTING = 3  # cycles that a mood must last
_UNLIKE = 2  # so many times longer when it is not the same mood all the time
_GROWTH = 4  # so many times longer for each time that it was left before, until all has been quiet as long
_LONGEST = 40
_MOVED_FAR = 2.0
_SMALL = 8.0  # a figure below it has not moved far, whatever its ratio
_MOODS = ("SLOSatisfied", "Planned")
_TOLD = (Reason.FORBIDDEN.value,)


class Key(NamedTuple):
    """One LLMDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(slots=True)
class _Mood:
    """What differed from the written status in the last cycles ("": nothing) and for how many; `unlike`: for how many
    something differed, whatever it was. `left`: how often each mood was written over since all was quiet.
    """

    last: str = ""
    seen: int = 0
    unlike: int = 0
    left: Counter[str] = field(default_factory=Counter)

    def keep(self, mood: str) -> None:
        self.seen = self.seen + 1 if mood == self.last else 1
        self.unlike = self.unlike + 1 if mood else 0
        self.last = mood
        if not mood and self.seen >= _needed(max(self.left.values(), default=0)):
            self.left.clear()

    @property
    def lasts(self) -> bool:
        return self.seen >= _needed(self.left[self.last]) or self.unlike >= _UNLIKE * _needed(self.left.total())

    def written_over(self, mood: str) -> None:
        self.last, self.seen, self.unlike = "", 0, 0
        self.left[mood] += 1


def _needed(times: int) -> int:
    """For how many cycles a mood must last that was left so many times."""
    return int(min(_LASTING * _GROWTH ** min(times, _LONGEST), _LONGEST))


@dataclass(slots=True)
class Memory:
    """Per resource: the mood and the plan that were last seen and since when, and what a person must mend before the
    actions can be performed; and who adopted which Deployment.
    """

    _moods: dict[Key, _Mood] = field(default_factory=dict)
    _intents: dict[Key, tuple[str, float]] = field(default_factory=dict)
    obstacles: Obstacles = field(default_factory=Obstacles)
    adopted: dict[tuple[str, str], Key] = field(default_factory=dict)
    neighbours: NeighbourMemory = field(default_factory=NeighbourMemory)
    weighing: Weighing = field(default_factory=Weighing)

    def should_write(self, key: Key, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
        """Whether the status `after` is worth a write over `before`."""
        if facts_of(before) != facts_of(after):
            self._moods.pop(key, None)
            return True
        mood = self._moods.setdefault(key, _Mood())
        if mood_of(before) == mood_of(after) and not figures_moved(before, after):
            mood.keep("")
            return False
        mood.keep(repr(mood_of(after)))
        if not mood.lasts:
            return False
        mood.written_over(repr(mood_of(before)))
        return True

    def lasting(self, key: Key, intent: str, now: float) -> float:
        """For how many seconds the same intent has been proposed without a break; an empty one is a break."""
        if not intent:
            self._intents.pop(key, None)
            return 0.0
        before, since = self._intents.get(key, ("", now))
        if before != intent:
            since = now
        self._intents[key] = (intent, since)
        return now - since

    def forget(self, key: Key) -> None:
        """Drop everything about a resource that is gone."""
        self._intents.pop(key, None)
        self._moods.pop(key, None)
        self.obstacles.forget(key)
        self.weighing.forget(key)
        self.adopted = {place: owner for place, owner in self.adopted.items() if owner != key}


def facts_of(status: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a status whose every change is written at once: phases, revisions, attempts, plans, conditions."""
    rollout = dict(status.get("rollout") or {})
    rollout.pop("holding", None)
    rollout.pop("heldBy", None)  # where a person must know, a condition carries it
    verdict, quality = rollout.pop("verdict", None) or {}, rollout.pop("quality", None) or {}
    return _without_empty(
        {
            "observedGeneration": status.get("observedGeneration"),
            "phase": status.get("phase"),
            "reason": status.get("reason"),
            "replicas": status.get("replicas"),
            "selector": status.get("selector"),
            "plan": status.get("plan"),
            "revisions": status.get("revisions"),
            "attempts": status.get("attempts"),
            "rollout": _without_empty(rollout),
            "verdict": (verdict.get("call"), verdict.get("reason")),
            "quality": (quality.get("call"), quality.get("reason")),
            "conditions": _conditions(status, moods=False),
        }
    )


def mood_of(status: Mapping[str, Any]) -> dict[str, Any]:
    """The part that may swing about a threshold."""
    return {
        "slo": status.get("slo"),
        "bottleneck": status.get("bottleneck"),
        "findings": sorted(finding["kind"] for finding in status.get("findings") or []),
        "conditions": _conditions(status, moods=True),
    }


def figures_moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a measured figure has at least doubled or halved."""
    old, new = before.get("measured") or {}, after.get("measured") or {}
    return any(_moved_far(float(old.get(name, 0)), float(value)) for name, value in new.items())


def _moved_far(old: float, new: float) -> bool:
    large, small = max(old, new), min(old, new)
    return large >= _MOVED_FAR * max(small, _SMALL)


def _conditions(status: Mapping[str, Any], *, moods: bool) -> list[tuple[str, str, str, str]]:
    """The message counts only where the reason says too little to act upon: which verb of which resource is refused."""
    return sorted(
        (item["type"], item["status"], item["reason"], item.get("message", "") if item["reason"] in _TOLD else "")
        for item in status.get("conditions") or []
        if (item["type"] in _MOODS) is moods
    )


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, {}, [], "", ())}

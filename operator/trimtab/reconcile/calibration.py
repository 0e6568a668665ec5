"""What this cluster taught the performance model: one ConfigMap in the operator's namespace, carried in memory.

Read before the first plan, written when a configuration showed something new, and not more often than every five
minutes. Nothing depends on it: what cannot be read or written is logged, and a lost write is learned again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from trimtab.config import Settings
from trimtab.kube.client import Kube
from trimtab.kube.errors import KubeError
from trimtab.kube.kinds import CONFIG_MAPS
from trimtab.model.rollout import Phase, RolloutState, Stable
from trimtab.model.snapshot import Snapshot
from trimtab.model.verdict import Call, Verdict
from trimtab.plan import PlanRequest, State, empty, learn, loads

_log = logging.getLogger(__name__)

KEY: Final = "state.json"
_PAUSE: Final = 300.0  # seconds between two writes, and between two tries to read
_LARGEST: Final = 512 * 1024  # characters; ours are a fifth of it

Seen = tuple[Stable, Snapshot]


def name_of(settings: Settings) -> str:
    """The ConfigMap's name: several installations in one namespace have a Lease each, and so one of these each."""
    return f"{settings.lease_name}-calibration"


@dataclass(slots=True)
class Calibration:
    """`state` is what plans are made with; None until it has been read."""

    state: State | None = None
    _stored: State = field(default_factory=empty)
    _tried: float = float("-inf")
    _written: float = float("-inf")

    async def load(self, kube: Kube, settings: Settings, now: float) -> State | None:
        """The state, read once; None while the API server does not give it."""
        if self.state is not None or now - self._tried < _PAUSE:
            return self.state
        self._tried = now
        try:
            held = await kube.get(CONFIG_MAPS, settings.lease_namespace, name_of(settings))
        except KubeError as error:
            _log.warning("The calibration could not be read; plans are made without it: %s", error)
            return None
        self.state = self._stored = _read(held, name_of(settings))
        return self.state

    async def store(self, kube: Kube, settings: Settings, now: float) -> None:
        """Writes the state where it says something new. A failure is logged, and tried again after a while."""
        if self.state is None or self.state == self._stored or now - self._written < _PAUSE:
            return
        self._written, state = now, self.state
        metadata = {"name": name_of(settings), "namespace": settings.lease_namespace}
        text = json.dumps(state, sort_keys=True, separators=(",", ":"))
        try:
            await kube.apply(CONFIG_MAPS, {"metadata": metadata, "data": {KEY: text}}, force=True)
        except KubeError as error:
            _log.warning("The calibration could not be written; it is kept in memory: %s", error)
            return
        self._stored = state

    async def learn(self, requests: Iterator[PlanRequest]) -> None:
        """Takes in what was seen. Of two that learn at the same time one may be lost, until it is seen again."""
        for request in requests:
            new = await asyncio.to_thread(learn, replace(request, calibration=self.state))
            if new is not None and self.state is not None:
                self.state = new


def _read(held: dict[str, Any] | None, name: str) -> State:
    """What is in the ConfigMap; empty where there is none, or where it is not to be understood, which is logged."""
    text = ((held or {}).get("data") or {}).get(KEY)
    if text is None:
        return empty()
    try:
        data = json.loads(text) if isinstance(text, str) and len(text) <= _LARGEST else None
    except ValueError:
        data = None
    state = loads(data) if isinstance(data, dict) else empty()
    if not state["observations"] and (not isinstance(data, dict) or data.get("observations") != []):
        _log.warning("The calibration in ConfigMap %s cannot be understood and is begun anew.", name)
    return state


def seen(state: RolloutState, snapshot: Snapshot, verdict: Verdict | None) -> Iterator[Seen]:
    """The revisions of which the readings show one configuration at work for a whole window: stable alone, and a
    canary when it is decided upon.
    """
    if state.phase is Phase.STABLE and state.stable is not None and snapshot.at - state.since >= snapshot.window:
        yield state.stable, snapshot
    candidate, decided = state.candidate, verdict is not None and verdict.call is not Call.UNKNOWN
    served = state.served_at is not None and snapshot.at - state.served_at >= snapshot.window
    if state.phase is Phase.CANARY_JUDGING and candidate is not None and served and decided:
        yield Stable(candidate.revision, candidate.config, candidate.template), snapshot

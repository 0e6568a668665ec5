"""Events for people and machines: once per transition, not once per reconcile.

An event's name is made from the object and what is said, so a repetition, also by a restarted operator, changes the
event that is there instead of adding one.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trimtab.kube.client import Kube
from trimtab.kube.errors import KubeError

_log = logging.getLogger(__name__)
_LONGEST_MESSAGE = 1024  # the API server's own bound
_LONGEST_NAME = 253
_REMEMBERED = 4096


@dataclass(slots=True)
class _Said:
    count: int
    first: datetime
    written_at: float


class Events:
    """Writes events about our resources. A failure to write one is logged and never stops a reconcile.

    A repetition within `quiet` seconds writes nothing; a later one raises the count of the same event. An object has a
    budget of `burst` events, refilled at one per `refill` seconds; what exceeds it is dropped and logged.
    """

    def __init__(
        self,
        kube: Kube,
        *,
        component: str = "trimtab",
        instance: str = "",
        quiet: float = 600.0,
        burst: int = 25,
        refill: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._kube = kube
        self._component = component
        self._instance = instance or component
        self._quiet = quiet
        self._burst = burst
        self._refill = refill
        self._clock = clock
        self._wall = wall
        self._said: OrderedDict[str, _Said] = OrderedDict()
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def normal(self, about: Mapping[str, Any], reason: str, message: str) -> bool:
        """Announces progress about an object (its full document, or at least apiVersion, kind and metadata)."""
        return await self._publish(about, reason, message, "Normal")

    async def warning(self, about: Mapping[str, Any], reason: str, message: str) -> bool:
        """Announces what a person should look at; True when an event was written."""
        return await self._publish(about, reason, message, "Warning")

    async def _publish(self, about: Mapping[str, Any], reason: str, message: str, kind: str) -> bool:
        message = message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"
        name = event_name(about, reason, message, kind)
        now = self._clock()
        said = self._said.get(name)
        if said is not None and now - said.written_at < self._quiet:
            return False
        uid = str(about["metadata"].get("uid") or about["metadata"]["name"])
        if not self._within_budget(uid, now):
            _log.warning("An event about %s was dropped, too many in a short time: %s", uid, reason)
            return False
        wall = datetime.fromtimestamp(self._wall(), UTC)
        said = _Said(said.count + 1, said.first, now) if said is not None else _Said(1, wall, now)
        try:
            await self._kube.create_event(self._body(about, name, reason, message, kind, said, wall))
        except KubeError as error:
            _log.warning("An event could not be written: %s", error)
            return False
        _remember(self._said, name, said)
        return True

    def _within_budget(self, uid: str, now: float) -> bool:
        tokens, since = self._budgets.get(uid, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) / self._refill)
        allowed = tokens >= 1.0
        _remember(self._budgets, uid, (tokens - 1.0 if allowed else tokens, now))
        return allowed

    def _body(
        self,
        about: Mapping[str, Any],
        name: str,
        reason: str,
        message: str,
        kind: str,
        said: _Said,
        wall: datetime,
    ) -> dict[str, Any]:
        metadata = about["metadata"]
        involved = {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
        }
        involved |= {"uid": metadata["uid"]} if metadata.get("uid") else {}
        return {
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": involved,
            "type": kind,
            "reason": reason,
            "message": message,
            "count": said.count,
            "firstTimestamp": _rfc3339(said.first),
            "lastTimestamp": _rfc3339(wall),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }


def event_name(about: Mapping[str, Any], reason: str, message: str, kind: str) -> str:
    """The event's name: the object's, and a hash of which object it is and what is said."""
    metadata = about["metadata"]
    parts = (about["kind"], str(metadata.get("uid") or ""), metadata["namespace"], metadata["name"])
    content = "\x00".join((*parts, kind, reason, message))
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return f"{str(metadata['name'])[: _LONGEST_NAME - len(digest) - 1].rstrip('-.')}.{digest}"


def _remember(memory: OrderedDict[str, Any], key: str, value: object) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _rfc3339(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")

"""Leader election on a coordination.k8s.io Lease: whoever holds it writes, everybody else is silent.

The rules are those of client-go's leader election: a contender takes a lease over only after it has watched it
unchanged for the whole duration by its own monotonic clock; every write carries the resourceVersion that was read, so
of two contenders the API server lets one through. The holder counts its own time from before it sent a renewal and
stops trusting itself a safety margin before the duration is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from trimtab.kube.client import Kube, Object
from trimtab.kube.errors import Conflict, KubeError
from trimtab.kube.kinds import LEASES

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """Seconds. `duration`: how long a silent holder is respected; `margin`: how much earlier it stops itself."""

    duration: int = 15
    margin: float = 5.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.margin < self.duration or self.retry >= self.duration - self.margin:
            raise ValueError("a lease needs 0 < margin < duration and a retry interval shorter than their difference")


class Lease:
    """One contender. `async with Lease(...)` waits until it holds the lease, renews it, and gives it back at the end.

    `clock` is monotonic seconds. `lost` is set once another holder has been seen after this one held it.
    """

    def __init__(
        self,
        kube: Kube,
        *,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._times = times or LeaseTimes()
        self._clock = clock
        self._renewed_at: float | None = None
        self._seen_version = ""
        self._seen_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    def is_held(self, now: float | None = None) -> bool:
        """Whether this process may write at `now` (of `clock`; None: right now). Safe to call from any thread."""
        renewed = self._renewed_at
        if renewed is None or self.lost.is_set():
            return False
        instant = self._clock() if now is None else now
        return instant < renewed + self._times.duration - self._times.margin

    async def attempt(self) -> bool:
        """Acquires or renews once; True when this process holds the lease afterwards. API errors count as "no"."""
        began = self._clock()
        try:
            held = await self._attempt(began)
        except Conflict:
            held = False  # somebody else wrote first
        except KubeError as error:
            _log.warning("The lease could not be written: %s", error)
            return self.is_held()
        if held:
            self._renewed_at = began
        return held

    async def _attempt(self, began: float) -> bool:
        current = await self._kube.get_own(LEASES, self._namespace, self._name)
        if current is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            await self._kube.create(LEASES, {"metadata": metadata, "spec": self._spec({})}, guarded=False)
            return True
        spec = current.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder != self._identity:
            if self._renewed_at is not None:
                self._renewed_at = None
                self.lost.set()
                return False
            if holder and not self._has_expired(current, spec, began):
                return False
        await self._kube.replace(LEASES, {"metadata": current["metadata"], "spec": self._spec(spec)}, guarded=False)
        return True

    def _has_expired(self, current: Object, spec: dict[str, Any], now: float) -> bool:
        """Watched unchanged for the holder's whole duration by our clock; other machines' clocks do not count."""
        version = current["metadata"]["resourceVersion"]
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, now
            return False
        return now >= self._seen_at + float(spec.get("leaseDurationSeconds") or self._times.duration)

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # for people; nothing is decided by it
        ours = before.get("holderIdentity") == self._identity
        changes = int(before.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._times.duration,
            "acquireTime": before.get("acquireTime") or now if ours else now,
            "renewTime": now,
            "leaseTransitions": changes if ours or not before else changes + 1,
        }

    async def release(self) -> None:
        """Gives the lease back, so that the next holder need not wait; writes nothing when it is not ours."""
        if self._renewed_at is None:
            return
        self._renewed_at = None  # first: nothing may be written any more, whatever the server says
        with contextlib.suppress(KubeError):
            current = await self._kube.get_own(LEASES, self._namespace, self._name)
            spec = (current or {}).get("spec") or {}
            if current is None or spec.get("holderIdentity") != self._identity:
                return
            free = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1}
            await self._kube.replace(LEASES, {"metadata": current["metadata"], "spec": free}, guarded=False)

    async def acquire(self) -> None:
        """Returns once this process holds the lease."""
        while not await self.attempt():
            await self._pause()

    async def keep(self) -> None:
        """Renews until the lease is lost to another holder. An outage of the API server only makes `is_held` false."""
        while not self.lost.is_set():
            await self._pause()
            await self.attempt()

    async def _pause(self) -> None:
        await asyncio.sleep(self._times.retry * random.uniform(0.8, 1.2))

    async def __aenter__(self) -> Self:
        await self.acquire()
        self._task = asyncio.create_task(self.keep(), name="lease")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.release()

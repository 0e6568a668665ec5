"""Time of the tests' own, and the ages of objects by it.

The API server stamps objects with the machine's time, which stands still while a test lets an hour pass. So an object
is as old as the test's clock says since it was first seen, and what the operator reads is stamped with that.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

_BEHIND = 12 * 3600.0  # hours that a test may let pass before it would write samples of the future


class Clock:
    """Seconds since the epoch; begins some hours ago, because Prometheus takes samples of the past only."""

    def __init__(self) -> None:
        self.now = float(int(time.time() - _BEHIND))

    def __call__(self) -> float:
        return self.now


class Ages:
    """When each object was first seen, by its uid."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, float] = {}

    def created(self, uid: str) -> float:
        """Seconds since the epoch, by the tests' clock."""
        return self._seen.setdefault(uid, self._clock.now)

    def stamped(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer of the API server, with the times of creation by the tests' clock."""
        for document in (answer, *(answer.get("items") or ())):
            metadata = document.get("metadata") or {}
            if metadata.get("uid") and metadata.get("creationTimestamp"):
                metadata["creationTimestamp"] = rfc3339(self.created(metadata["uid"]))
        return answer


def rfc3339(instant: float) -> str:
    """As Kubernetes writes times."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""What a failed reconcile leads to: a log line and a later try, later each time."""

from __future__ import annotations

import logging
from typing import Protocol

from trimtab.kube.errors import NotLeader, TooManyRequests
from trimtab.reconcile.memory import Key

_log = logging.getLogger(__name__)
_FIRST, _LONGEST = 2.0, 120.0
_DOUBLINGS = 10  # beyond the longest wait; a power without bound is no float any more after a day of failures


class _Telemetry(Protocol):
    def reconciled(self, outcome: str) -> None: ...


class Failures:
    """Back-off per resource: 2 s, doubling, at most 2 min; an API server that names a time is obeyed."""

    def __init__(self, telemetry: _Telemetry) -> None:
        self._telemetry = telemetry
        self._counts: dict[Key, int] = {}

    def failed(self, key: Key, error: Exception) -> float:
        """Seconds until the next try."""
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        delay = min(_FIRST * 2.0 ** min(count, _DOUBLINGS), _LONGEST)
        if isinstance(error, TooManyRequests):
            delay = max(delay, error.retry_after)
        self._telemetry.reconciled(type(error).__name__)
        if isinstance(error, NotLeader):
            _log.info("nothing was written for %s: %s", key, error)
        else:
            _log.error("reconciling %s failed, next try in %.0f s: %s", key, delay, error, exc_info=error)
        return delay

    def succeeded(self, key: Key) -> None:
        """The next failure counts from the beginning."""
        self._counts.pop(key, None)

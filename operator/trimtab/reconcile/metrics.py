"""Reads metrics for one deployment through batches that all deployments share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from trimtab.observe.gather import MetricsRead, Target, read_metrics, stale_bound
from trimtab.observe.prometheus import Prometheus
from trimtab.reconcile.coalesce import Coalescer


class _Group(NamedTuple):
    engine: str
    version: str
    window: float


class MetricsReader:
    """`read` answers for one target; targets of one engine, version and window are read together."""

    def __init__(self, prometheus: Prometheus, now: Callable[[], float], scrape_interval: float) -> None:
        self._prometheus = prometheus
        self._stale_after = stale_bound(scrape_interval)
        self._now = now
        self._batches: Coalescer[_Group, Target, tuple[str, str], MetricsRead] = Coalescer(
            self._read, lambda target: (target.namespace, target.name)
        )

    async def read(self, target: Target, window: float) -> MetricsRead | None:
        """The readings of one deployment over the last `window` seconds."""
        return await self._batches.get(_Group(target.engine, target.version, window), target)

    async def _read(self, group: _Group, targets: Sequence[Target]) -> Mapping[tuple[str, str], MetricsRead]:
        return await read_metrics(
            self._prometheus, targets, window=group.window, now=self._now(), stale_after=self._stale_after
        )

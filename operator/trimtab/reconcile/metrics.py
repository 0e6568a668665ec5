"""Reads metrics for one deployment through batches that all deployments share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from trimtab.model.reading import Unknown
from trimtab.observe.gather import MetricsRead, Target, read_metrics, stale_bound
from trimtab.observe.prometheus import Prometheus
from trimtab.observe.trials import Steps, TrialRead, read_trials
from trimtab.reconcile.coalesce import Coalescer


class _Group(NamedTuple):
    engine: str
    version: str
    window: float


class _TrialGroup(NamedTuple):
    engine: str
    version: str
    end: float
    step: float


class _Trial(NamedTuple):
    target: Target
    start: float


class MetricsReader:
    """`read` and `read_trial` answer for one target; those of one engine, version and window are read together."""

    def __init__(self, prometheus: Prometheus, now: Callable[[], float], scrape_interval: float) -> None:
        self._prometheus = prometheus
        self._scrape_interval = scrape_interval
        self._stale_after = stale_bound(scrape_interval)
        self._now = now
        self._batches: Coalescer[_Group, Target, tuple[str, str], MetricsRead] = Coalescer(
            self._read, lambda target: (target.namespace, target.name)
        )
        self._trials: Coalescer[_TrialGroup, _Trial, tuple[str, str], TrialRead | Unknown] = Coalescer(
            self._read_trials, lambda trial: (trial.target.namespace, trial.target.name)
        )

    async def read(self, target: Target, window: float) -> MetricsRead | None:
        """The readings of one deployment over the last `window` seconds."""
        return await self._batches.get(_Group(target.engine, target.version, window), target)

    async def read_trial(
        self, target: Target, *, start: float, end: float, interval: float
    ) -> TrialRead | Unknown | None:
        """The samples of one deployment from `start` to `end`, at the ends of intervals and as often between them as
        pods are scraped. Trials that are judged in the same interval share their queries, from the earliest start on.
        """
        step = interval / max(1, math.ceil(interval / self._scrape_interval))
        return await self._trials.get(_TrialGroup(target.engine, target.version, end, step), _Trial(target, start))

    async def _read_trials(
        self, group: _TrialGroup, trials: Sequence[_Trial]
    ) -> Mapping[tuple[str, str], TrialRead | Unknown]:
        steps = Steps(start=min(trial.start for trial in trials), end=group.end, step=group.step)
        targets = [trial.target for trial in trials]
        return await read_trials(self._prometheus, targets, steps, stale_after=self._stale_after)

    async def _read(self, group: _Group, targets: Sequence[Target]) -> Mapping[tuple[str, str], MetricsRead]:
        return await read_metrics(
            self._prometheus, targets, window=group.window, now=self._now(), stale_after=self._stale_after
        )

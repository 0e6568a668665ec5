"""The operator's own Prometheus metrics, in a registry of their own. Labels hold names, never contents of a spec."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """All metrics of one operator process.

    `kube.Kube(on_write=metrics.wrote)`, `Prometheus(on_query=metrics.queried)`; the others are called by the loop.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        own = self.registry
        self._steps = Histogram(
            "trimtab_reconcile_step_seconds",
            "Time that one step of a reconcile took.",
            ["step"],
            buckets=_DURATIONS,
            registry=own,
        )
        self._reconciles = Counter(
            "trimtab_reconciles_total",
            "Reconciles by outcome: ok, error, or what held them.",
            ["outcome"],
            registry=own,
        )
        self._phase = Gauge(
            "trimtab_deployment_phase",
            "1 for the phase that a deployment is in.",
            ["namespace", "name", "phase"],
            registry=own,
        )
        self._verdicts = Counter("trimtab_verdicts_total", "Judgements of canaries.", ["call", "reason"], registry=own)
        self._plans = Counter(
            "trimtab_plans_total", "Plans proposed, by what became of them.", ["outcome"], registry=own
        )
        self._writes = Counter(
            "trimtab_api_writes_total", "Writes to the API server.", ["verb", "kind", "outcome"], registry=own
        )
        self._queries = Histogram(
            "trimtab_prometheus_query_seconds", "Time that one query took.", buckets=_DURATIONS, registry=own
        )
        self._query_outcomes = Counter(
            "trimtab_prometheus_queries_total",
            "Queries by outcome: ok, or why there was no answer.",
            ["outcome"],
            registry=own,
        )
        self._queue = Gauge("trimtab_queue_depth", "Resources that wait for their reconcile.", registry=own)
        self._lag = Histogram(
            "trimtab_event_loop_lag_seconds",
            "How late the event loop came to a timer.",
            buckets=_DURATIONS,
            registry=own,
        )
        self._leader = Gauge("trimtab_leader", "1 while this process holds the lease.", registry=own)
        self._phases: dict[tuple[str, str], str] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times one step of a reconcile, also when it raises."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._steps.labels(name).observe(time.perf_counter() - began)

    def reconciled(self, outcome: str) -> None:
        self._reconciles.labels(outcome).inc()

    def phase(self, namespace: str, name: str, phase: str) -> None:
        """Notes the phase of a deployment; the series of its last phase goes."""
        before = self._phases.get((namespace, name))
        if before is not None and before != phase:
            self._phase.remove(namespace, name, before)
        self._phases[namespace, name] = phase
        self._phase.labels(namespace, name, phase).set(1)

    def forget(self, namespace: str, name: str) -> None:
        """Drops the series of a deployment that is gone."""
        before = self._phases.pop((namespace, name), None)
        if before is not None:
            self._phase.remove(namespace, name, before)

    def judged(self, call: str, reason: str) -> None:
        self._verdicts.labels(call, reason).inc()

    def planned(self, outcome: str) -> None:
        self._plans.labels(outcome).inc()

    def wrote(self, verb: str, kind: str, outcome: str) -> None:
        self._writes.labels(verb, kind, outcome).inc()

    def queried(self, seconds: float, outcome: str) -> None:
        self._queries.observe(seconds)
        self._query_outcomes.labels(outcome).inc()

    def queue_depth(self, depth: int) -> None:
        self._queue.set(depth)

    def lagged(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def leading(self, leads: bool) -> None:
        self._leader.set(1 if leads else 0)

    def exposition(self) -> bytes:
        """The text format of all metrics."""
        return generate_latest(self.registry)

    def names(self) -> Iterable[str]:
        """The names of all families."""
        return (family.name for family in self.registry.collect())

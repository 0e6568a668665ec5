"""Our metrics, beside the engine's own, in the registry that its /metrics shows."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from trimtab_engine.admission.decide import Why
from trimtab_engine.engines.chain import Chain
from trimtab_engine.engines.facts import Attention
from trimtab_engine.limits.limits import Limits
from trimtab_engine.server.gpu_view import GpuMetrics
from trimtab_engine.server.health import Reason
from trimtab_engine.server.request_metrics import RequestMetrics
from trimtab_engine.speculation.switch import Why as NotGuessing


class Metrics:
    """Labels are names of fields and of reasons, never anything from a request."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            # Several API servers report one value each; all know the same.
            return Gauge(name, text, labels, registry=registry, multiprocess_mode="mostrecent")

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self._limit = gauge("trimtab_engine_limit", "A wanted limit; +Inf where there is no bound.", "limit")
        self._wanted = gauge("trimtab_engine_limits_revision", "Number of the wanted limits.")
        self._in_force = gauge("trimtab_engine_limits_revision_in_force", "Number of the limits of the last step.")
        self._id = gauge("trimtab_engine_settings_id", "The id of the settings in force; 0 where they have none.")
        self._degraded = gauge("trimtab_engine_degraded", "1 while the server is degraded for this reason.", "reason")
        self._engine = gauge("trimtab_engine_info", "1 for the engine that serves.", "name")
        self._passed = gauge("trimtab_engine_passed_over", "1 for an engine that does not serve.", "name", "reason")
        self._changes = counter(
            "trimtab_engine_settings_changes", "Settings that came, by source and outcome.", "source", "outcome"
        )
        self._attention = gauge(
            "trimtab_engine_attention_info", "The kernel that computes attention.", "kernel", "device"
        )
        self._refused = counter("trimtab_engine_requests_refused", "Requests answered with 429.", "reason")
        self._timed_out = counter("trimtab_engine_requests_timed_out", "Requests that took longer than they may.")
        self.requests = RequestMetrics(registry)
        self.gpus = GpuMetrics(registry)
        self._cache = counter(
            "trimtab_engine_semantic_cache_requests", "Requests that came to the semantic cache, by outcome.", "outcome"
        )
        self._look_up = Histogram(
            "trimtab_engine_semantic_cache_look_up_seconds",
            "Time of a look-up in the semantic cache.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25),
            registry=registry,
        )
        self._kept = gauge("trimtab_engine_semantic_cache_entries", "Answers that the semantic cache has.")
        self._guessing = gauge("trimtab_engine_speculation_on", "1 while tokens are guessed ahead.", "method")
        self._resting = gauge("trimtab_engine_speculation_off", "1 for why tokens are not guessed.", "reason")
        self._accepted = gauge(
            "trimtab_engine_speculation_acceptance", "Share of right guesses over the window, 0 to 1.", "method"
        )
        for why in Why:
            self._refused.labels(why.value)
        for reason in Reason:
            self._degraded.labels(reason.value).set(0)

    def wanted(self, limits: Limits, revision: int) -> None:
        for name, value in limits.as_json().items():
            self._limit.labels(name).set(float("inf") if value is None else value)
        self._wanted.set(revision)

    def attention(self, attention: Attention) -> None:
        self._attention.labels(attention.kernel, attention.device).set(1)

    def chain(self, chain: Chain) -> None:
        self._engine.labels(chain.engine).set(1)
        for passed in chain.passed:
            self._passed.labels(passed.engine, passed.why.value).set(1)

    def in_force(self, revision: int) -> None:
        self._in_force.set(revision)

    def settings_id(self, number: int) -> None:
        self._id.set(number)

    def degraded(self, reasons: Mapping[Reason, str]) -> None:
        for reason in Reason:
            self._degraded.labels(reason.value).set(reason in reasons)

    def settings(self, source: str, *, accepted: bool) -> None:
        self._changes.labels(source, "accepted" if accepted else "refused").inc()

    def refused(self, why: Why) -> None:
        self._refused.labels(why.value).inc()

    def timed_out(self) -> None:
        self._timed_out.inc()

    def speculation(self, method: str, *, on: bool, why: str | None, rate: float | None) -> None:
        """`rate` is None where nothing was guessed within the window."""
        self._guessing.labels(method).set(on)
        for reason in NotGuessing:
            self._resting.labels(reason.value).set(reason.value == why)
        self._accepted.labels(method).set(float("nan") if rate is None else rate)

    def looked_up(self, outcome: str, *, seconds: float | None = None) -> None:
        """`seconds` where there was a look-up."""
        self._cache.labels(outcome).inc()
        if seconds is not None:
            self._look_up.observe(seconds)

    def cached(self, entries: int) -> None:
        self._kept.set(entries)

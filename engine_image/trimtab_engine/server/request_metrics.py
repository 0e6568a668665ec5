"""Metrics of requests as our layers see them, beside the engine's own. Times in seconds, at the server's door."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from trimtab_engine.monitor.measured import Outcome

_TTFT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_ITL = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5, 5)
_LATENCY = (0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)


class RequestMetrics:
    """`model` is the name that the server serves, never one that a request sent."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"trimtab_engine_{name}", text, ("model",), registry=registry, buckets=buckets)

        def gauge(name: str, text: str, how: str) -> Gauge:
            return Gauge(f"trimtab_engine_{name}", text, registry=registry, multiprocess_mode=how)  # type: ignore[arg-type]

        self._ttft = histogram("time_to_first_token_seconds", "Until the first token of a stream.", _TTFT)
        self._itl = histogram("inter_token_seconds", "Between two tokens of a stream.", _ITL)
        self._latency = histogram("request_latency_seconds", "Until the end of a request that succeeded.", _LATENCY)
        self._ended = Counter(
            "trimtab_engine_requests", "Requests that ended.", ("model", "outcome"), registry=registry
        )
        self._tokens = Counter("trimtab_engine_tokens", "Tokens.", ("model", "kind"), registry=registry)
        self._inside = gauge("requests_inside", "Requests accepted and not answered.", "livesum")
        self._waiting = gauge("requests_waiting", "Requests that wait for others.", "mostrecent")
        self._load = gauge("load_score", "How loaded the server is, 0 to 1.", "mostrecent")
        self.spans = Counter(
            "trimtab_engine_spans", "Spans of traces that left, or did not.", ("outcome",), registry=registry
        )
        self.alerts = Gauge(
            "trimtab_engine_alert_firing",
            "1 while an alert is raised.",
            ("alert", "severity"),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.deliveries = Counter(
            "trimtab_engine_alert_messages",
            "Messages of alerts, by receiver and outcome.",
            ("receiver", "outcome"),
            registry=registry,
        )
        self.decisions = Counter(
            "trimtab_engine_tuner_decisions", "Decisions of the tuner.", ("action", "reason"), registry=registry
        )
        self.tuner = Gauge(
            "trimtab_engine_tuner_state",
            "1 for the state that the tuner is in.",
            ("state",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.model = ""

    def serves(self, model: str) -> None:
        """Makes the series of this model, so that they begin at 0."""
        self.model = model
        for outcome in Outcome:
            self._ended.labels(model, outcome.value)
        for kind in ("prompt", "output"):
            self._tokens.labels(model, kind)

    def first_token(self, seconds: float) -> None:
        self._ttft.labels(self.model).observe(seconds)

    def tokens(self, count: int, gaps: Sequence[float]) -> None:
        self._tokens.labels(self.model, "output").inc(count)
        observe = self._itl.labels(self.model).observe
        for gap in gaps:
            observe(gap)

    def ended(self, outcome: Outcome, *, latency: float | None, prompt_tokens: int) -> None:
        self._ended.labels(self.model, outcome.value).inc()
        self._tokens.labels(self.model, "prompt").inc(prompt_tokens)
        if latency is not None:
            self._latency.labels(self.model).observe(latency)

    def load(self, *, inside: int, waiting: int, score: float) -> None:
        self._inside.set(inside)
        self._waiting.set(waiting)
        self._load.set(score)

"""Snapshots as they were measured or follow from what was measured, for the tests of analysis and planning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trimtab.analyse import Limits, diagnose
from trimtab.catalogue import find_engine
from trimtab.model.bottleneck import Health
from trimtab.model.config import EngineConfig
from trimtab.model.histogram import Histogram
from trimtab.model.reading import Known, Reading, Unknown
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.snapshot import ObservedPod, PodFacts, PodMetrics, RevisionView, Snapshot
from trimtab.plan import PlanRequest

WINDOW = 60.0
SCRAPES = 12.0
# Fine enough for targets of 20 to 800 ms, as the engines of the tests are told to export.
SECONDS = (
    0.005,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.06,
    0.08,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.8,
    1.2,
    2.0,
    3.0,
    5.0,
    10.0,
    20.0,
)
TOKENS = (1.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0)


def histogram(values: Sequence[float], times: float = 1.0, bounds: Sequence[float] = SECONDS) -> Histogram:
    """`values`, each observed `times` times, in buckets."""
    edges = (*bounds, math.inf)
    counts = tuple(times * sum(1 for value in values if value <= edge) for edge in edges)
    return Histogram(edges, counts, times * sum(values))


def known(value: Any, samples: float = SCRAPES) -> Known[Any]:
    return Known(value, window=WINDOW, samples=samples)


def spread(median: float, tail: float) -> list[float]:
    """A hundred observations: most near the median, five at the tail."""
    return [median * (0.8 + 0.4 * i / 94) for i in range(95)] + [tail] * 5


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One pod's figures in the units of the tables that were measured."""

    running: float = 1.0
    waiting: float = 0.0
    kv_usage: float = 0.03
    kv_capacity: float = 87296.0
    prompt: float = 64.0
    output: float = 64.0
    requests_per_second: float = 2.0
    ttft: tuple[float, float] = (0.05, 0.08)
    itl: tuple[float, float] = (0.007, 0.009)
    e2e: tuple[float, float] = (0.5, 0.6)
    queue: float = 0.0
    hit_rate: float = 0.0
    preemptions_per_second: float = 0.0
    errors_per_second: float = 0.0
    memory_bytes: float = 2.7e9
    changes: Mapping[str, Reading[Any]] = field(default_factory=dict)

    def metrics(self) -> PodMetrics:
        requests = self.requests_per_second * WINDOW
        per = requests / 100.0

        def latency(values: Sequence[float], times: float = per) -> Known[Histogram]:
            content = histogram(values, times)
            return known(content, content.count)

        looked_up = self.requests_per_second * self.prompt
        metrics = PodMetrics(
            ttft=latency(spread(*self.ttft)),
            itl=latency(spread(*self.itl), per * self.output),
            e2e=latency(spread(*self.e2e)),
            queue_time=latency([self.queue] * 100),
            prompt_tokens=known(histogram([self.prompt] * 100, per, TOKENS), requests),
            output_tokens=known(histogram([self.output] * 100, per, TOKENS), requests),
            request_rate=known(self.requests_per_second, requests),
            error_rate=known(self.errors_per_second, requests),
            prompt_token_rate=known(looked_up),
            output_token_rate=known(self.requests_per_second * self.output),
            preemption_rate=known(self.preemptions_per_second),
            prefix_query_rate=known(looked_up),
            prefix_hit_rate=known(looked_up * self.hit_rate),
            running=known(self.running),
            waiting=known(self.waiting),
            kv_usage=known(self.kv_usage),
            kv_capacity_tokens=known(self.kv_capacity),
            cpu_cores=known(1.0),
            memory_bytes=known(self.memory_bytes),
        )
        return replace(metrics, **self.changes)


# The measured rows of `--max-num-seqs`, closed loop, 64 tokens in and out: what two pods with 32 clients show.
def one_slot(**figures: Any) -> Pod:
    """maxNumSeqs 1 with 15 requests per pod: 129 tokens/s, TTFT about 7 s, ITL 7 ms."""
    base: dict[str, Any] = {
        "running": 1.0,
        "waiting": 14.0,
        "requests_per_second": 2.0,
        "ttft": (7.0, 7.6),
        "queue": 6.95,
        "e2e": (7.5, 8.1),
    }
    return Pod(**{**base, **figures})


def well_batched(**figures: Any) -> Pod:
    """maxNumSeqs 32 with 15 requests per pod: about 690 tokens/s, TTFT about 50 ms, ITL 16 ms."""
    base: dict[str, Any] = {
        "running": 15.0,
        "waiting": 0.0,
        "kv_usage": 0.05,
        "requests_per_second": 10.8,
        "ttft": (0.06, 0.15),
        "itl": (0.016, 0.04),
        "e2e": (1.1, 1.4),
    }
    return Pod(**{**base, **figures})


def snapshot(
    *pods: Pod,
    engine: str = "vllm",
    version: str = "0.32.0",
    revision: str = "stable",
    metrics: Reading[bool] | None = None,
    oom_kills: int = 0,
) -> Snapshot:
    observed = tuple(
        ObservedPod(
            PodFacts(name=f"pod-{i}", revision=revision, ready=True, ready_since=0.0, oom_kills=oom_kills),
            pod.metrics(),
        )
        for i, pod in enumerate(pods)
    )
    return Snapshot(
        namespace="default",
        name="m75",
        at=1_000_000.0,
        window=WINDOW,
        engine=engine,
        engine_version=version,
        revisions=(RevisionView(revision, observed),),
        metrics=Known(True, WINDOW) if metrics is None else metrics,
    )


SLO = Slo(
    latencies=(LatencyTarget(Latency.TTFT, 95, 1.0), LatencyTarget(Latency.ITL, 95, 0.2)),
    max_error_share=0.01,
)


def limits(config: EngineConfig, device: str = "cpu", engine: str = "vllm", version: str = "0.32.0") -> Limits:
    """What the shell would pass: the configuration over the engine's defaults."""
    catalogue = find_engine(engine)
    assert catalogue is not None
    values = catalogue.effective(version, device, config)

    def whole(name: str) -> int | None:
        value = values.get(name)
        return value if isinstance(value, int) else None

    def least(*knobs: str) -> int | None:
        return min((n for knob in knobs if (n := whole(knob)) is not None), default=None)

    prefix = values.get("enablePrefixCaching")
    return Limits(
        max_num_seqs=least("maxNumSeqs", "maxNumActiveSeqs"),
        max_num_batched_tokens=least("maxNumBatchedTokens", "maxNumScheduledTokens"),
        prefix_caching=prefix if isinstance(prefix, bool) else None,
    )


def health(view: Snapshot, config: EngineConfig, slo: Slo = SLO, device: str = "cpu") -> Health:
    return diagnose(view, slo, "stable", limits(config, device, view.engine, view.engine_version))


def request(view: Snapshot, config: dict[str, Any] | EngineConfig, **changes: Any) -> PlanRequest:
    """A request as the shell makes it, diagnosed by the real analysis."""
    settings = config if isinstance(config, EngineConfig) else EngineConfig(config)
    slo = changes.pop("slo", SLO)
    device = changes.pop("device", "cpu")
    return PlanRequest(
        namespace=view.namespace,
        target=view.name,
        engine=view.engine,
        version=view.engine_version,
        device=device,
        config=settings,
        snapshot=view,
        health=changes.pop("health", None) or health(view, settings, slo, device),
        stable="stable",
        slo=slo,
        replicas=changes.pop("replicas", 2),
        **changes,
    )


__all__ = [
    "SLO",
    "Pod",
    "Unknown",
    "health",
    "histogram",
    "known",
    "limits",
    "one_slot",
    "request",
    "snapshot",
    "well_batched",
]

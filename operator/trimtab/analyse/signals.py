"""The named readings of one revision, derived from the snapshot once and then only read by the detectors.

Times in seconds, lengths in tokens, rates per second, shares from 0 to 1. Figures "per pod" are means over the pods
that could be read, so that a pod without readings counts neither as idle nor as busy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trimtab.analyse.readings import NOT_SET, finite, mean, pooled, quantile, ratio, values
from trimtab.model.bottleneck import TargetState
from trimtab.model.histogram import Histogram
from trimtab.model.reading import Known, Reading, Unknown, Why, mapped
from trimtab.model.slo import Slo
from trimtab.model.snapshot import ObservedPod, PodMetrics, Snapshot

# Fewer observations say nothing about a quantile: at least a few must lie above it.
_MINIMUM_FOR_MEDIAN = 8.0
_MINIMUM_FOR_P95 = 20.0
_MINIMUM_FOR_P99 = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is known of the effective configuration; None: not known, or not limited."""

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    prefix_caching: bool | None = None
    chunked_prefill: bool | None = None
    kv_cache_dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Quantiles:
    """One latency: mean and quantiles, in seconds."""

    mean: Reading[float]
    p50: Reading[float]
    p95: Reading[float]
    p99: Reading[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """All that a detector may look at."""

    pods: int  # ready pods of the revision
    pods_read: int  # of these, the pods whose queue could be read
    oom_kills: int
    window: float
    slo: Slo
    limits: Limits
    targets: tuple[TargetState, ...] = ()
    error_share: Reading[float] = field(default=NOT_SET)
    slo_met: bool | None = None
    ttft: Quantiles
    itl: Quantiles
    e2e: Quantiles
    queue: Quantiles
    prompt: Quantiles  # tokens
    output: Quantiles  # tokens
    request_rate: Reading[float]
    output_token_rate: Reading[float]
    prompt_token_rate: Reading[float]
    running: Reading[float]  # all pods
    waiting: Reading[float]
    running_per_pod: Reading[float]
    waiting_per_pod: Reading[float]
    batch_fill: Reading[float]  # running / slots
    kv_usage: Reading[float]  # of the fullest pod
    hit_rate: Reading[float]  # tokens found / tokens looked up in the prefix cache
    preemptions_per_request: Reading[float]
    prefill_share: Reading[float]  # of a request's time in the engine, queue excluded
    load_by_pod: Reading[tuple[float, ...]]  # running + waiting
    gpu_utilisation: Reading[float]


def derive(snapshot: Snapshot, slo: Slo, stable: str, limits: Limits) -> Signals:
    """The signals of revision `stable`; all of them Unknown when the snapshot says that nothing could be read."""
    view = snapshot.revision(stable)
    pods = view.ready_pods
    blind = snapshot.metrics if isinstance(snapshot.metrics, Unknown) else None

    def histogram(pick: Callable[[PodMetrics], Reading[Histogram]]) -> Reading[Histogram]:
        return blind or pooled(pods, pick)

    def each(pick: Callable[[PodMetrics], Reading[float]]) -> Reading[tuple[float, ...]]:
        return blind or values(pods, pick)

    def total(pick: Callable[[PodMetrics], Reading[float]]) -> Reading[float]:
        return mapped(each(pick), sum)

    running, waiting = each(lambda m: m.running), each(lambda m: m.waiting)
    running_per_pod = mapped(running, _average)
    requests = total(lambda m: m.request_rate)
    ttft = _quantiles(histogram(lambda m: m.ttft))
    e2e = _quantiles(histogram(lambda m: m.e2e))
    queue = _quantiles(histogram(lambda m: m.queue_time))
    slots = NOT_SET if limits.max_num_seqs is None else Known(float(limits.max_num_seqs))
    return Signals(
        pods=len(pods),
        pods_read=len(running.value) if isinstance(running, Known) else 0,
        oom_kills=sum(pod.facts.oom_kills for pod in view.pods),
        window=snapshot.window,
        slo=slo,
        limits=limits,
        ttft=ttft,
        itl=_quantiles(histogram(lambda m: m.itl)),
        e2e=e2e,
        queue=queue,
        prompt=_quantiles(histogram(lambda m: m.prompt_tokens)),
        output=_quantiles(histogram(lambda m: m.output_tokens)),
        request_rate=requests,
        output_token_rate=total(lambda m: m.output_token_rate),
        prompt_token_rate=total(lambda m: m.prompt_token_rate),
        running=mapped(running, sum),
        waiting=mapped(waiting, sum),
        running_per_pod=running_per_pod,
        waiting_per_pod=mapped(waiting, _average),
        batch_fill=_batch_fill(running_per_pod, slots),
        kv_usage=mapped(each(lambda m: m.kv_usage), max),
        hit_rate=ratio(total(lambda m: m.prefix_hit_rate), total(lambda m: m.prefix_query_rate)),
        preemptions_per_request=ratio(total(lambda m: m.preemption_rate), requests),
        prefill_share=_prefill_share(ttft.mean, e2e.mean, queue.mean),
        load_by_pod=blind or _load(pods),
        gpu_utilisation=mapped(each(lambda m: m.gpu_utilisation), _average),
    )


def _average(numbers: tuple[float, ...]) -> float:
    return sum(numbers) / len(numbers)


def _batch_fill(running: Reading[float], slots: Reading[float]) -> Reading[float]:
    """Keeps the samples of `running`: a limit is not measured."""
    if isinstance(running, Unknown) or isinstance(slots, Unknown):
        return running if isinstance(running, Unknown) else slots
    return Known(running.value / max(1.0, slots.value), window=running.window, samples=running.samples)


def _quantiles(histogram: Reading[Histogram]) -> Quantiles:
    return Quantiles(
        mean(histogram),
        quantile(histogram, 0.50, _MINIMUM_FOR_MEDIAN),
        quantile(histogram, 0.95, _MINIMUM_FOR_P95),
        quantile(histogram, 0.99, _MINIMUM_FOR_P99),
    )


def _prefill_share(ttft: Reading[float], e2e: Reading[float], queue: Reading[float]) -> Reading[float]:
    """The part of a request's time in the engine before its first token, from the means, which buckets cannot blur."""
    for reading in (ttft, e2e, queue):
        if isinstance(reading, Unknown):
            return reading
    assert isinstance(ttft, Known) and isinstance(e2e, Known) and isinstance(queue, Known)
    inside = e2e.value - queue.value
    if inside <= 0:
        return Unknown(Why.TOO_FEW_SAMPLES, "The requests that ended waited longer than they ran.")
    share = max(0.0, ttft.value - queue.value) / inside
    return Known(min(1.0, share), window=e2e.window, samples=min(ttft.samples, e2e.samples))


def _load(pods: tuple[ObservedPod, ...]) -> Reading[tuple[float, ...]]:
    loads: list[float] = []
    samples = 0.0
    for pod in pods:
        running, waiting = finite(pod.metrics.running), finite(pod.metrics.waiting)
        if isinstance(running, Known) and isinstance(waiting, Known):
            loads.append(running.value + waiting.value)
            samples += running.samples
    if not loads:
        return Unknown(Why.NOT_SCRAPED, "No pod's queue could be read.")
    return Known(tuple(loads), samples=samples)

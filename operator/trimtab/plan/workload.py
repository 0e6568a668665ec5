"""What the stable pods are doing, as the planner needs it: means over pods, None where a figure is not known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trimtab.model.histogram import Histogram
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.snapshot import PodMetrics, RevisionView, Snapshot
from trimtab.model.wording import number, percent, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Figures per pod over the window; times in seconds, lengths in tokens, rates per second, shares 0 to 1."""

    pods: int
    running: float
    waiting: float
    busiest: float  # running and waiting on the pod that has most
    request_rate: float | None
    kv_usage: float | None  # of the fullest pod
    kv_capacity: float | None  # tokens, of the smallest pod
    prompt: float | None  # mean tokens
    output: float | None  # mean tokens
    prompt_variation: float | None  # coefficients of variation of the lengths
    output_variation: float | None
    ttft: float | None  # means
    itl: float | None
    e2e: float | None
    queue: float | None
    hit_rate: float | None
    preemptions: float | None  # per request
    memory_bytes: float | None  # of the largest pod

    @property
    def demand(self) -> float:
        """Requests that want to run at once."""
        return self.running + self.waiting

    @property
    def prefill(self) -> float | None:
        """Seconds from the start of a request in the engine to its first token.

        Engines count a TTFT when the first token leaves and a queue time when the request ends, so while a long queue
        grows, their means are of different requests. End-to-end and queue time are counted together, but contain the
        decoding, which is only known on average. Either is too large when it errs by much: the smaller one counts.
        """
        if self.ttft is None or self.queue is None:
            return None
        found = self.ttft - self.queue
        if self.e2e is not None and self.itl is not None and self.output is not None:
            found = min(found, self.e2e - self.queue - self.itl * max(0.0, self.output - 1))
        return max(0.0, found)

    @property
    def fingerprint(self) -> Mapping[str, float]:
        """What kind of traffic this is, rounded to two significant digits so that noise does not show."""
        figures = {
            "promptTokens": self.prompt,
            "outputTokens": self.output,
            "requestsPerSecondPerPod": self.request_rate,
            "concurrencyPerPod": self.demand,
            "prefixHitRate": self.hit_rate,
        }
        return {name: _two_digits(value) for name, value in figures.items() if value is not None}


def read(snapshot: Snapshot, stable: str) -> Workload | Unknown:
    """The workload of a revision; Unknown when any of its ready pods does not tell what it runs."""
    if isinstance(snapshot.metrics, Unknown):
        return snapshot.metrics
    view = snapshot.revision(stable)
    if not view.ready_pods:
        return Unknown(Why.NOT_SCRAPED, f"No pod of revision {stable} is ready.")
    for pod in view.ready_pods:
        for reading in (_number(pod.metrics.running), _number(pod.metrics.waiting)):
            if isinstance(reading, Unknown):
                said = f" ({reading.message.rstrip('.')})" if reading.message else ""
                return Unknown(reading.why, f"The queue of pod {pod.facts.name} cannot be read{said}.")
    running, waiting = (_all(view, pick) for pick in (lambda m: m.running, lambda m: m.waiting))
    requests = _all(view, lambda m: m.request_rate)
    return Workload(
        pods=len(view.ready_pods),
        running=_mean(running) or 0.0,
        waiting=_mean(waiting) or 0.0,
        busiest=max((here + there for here, there in zip(running, waiting, strict=True)), default=0.0),
        request_rate=_mean(requests),
        kv_usage=max(_all(view, lambda m: m.kv_usage), default=None),
        kv_capacity=min(_all(view, lambda m: m.kv_capacity_tokens), default=None),
        prompt=_average(view, lambda m: m.prompt_tokens),
        output=_average(view, lambda m: m.output_tokens),
        prompt_variation=_variation(view, lambda m: m.prompt_tokens),
        output_variation=_variation(view, lambda m: m.output_tokens),
        ttft=_average(view, lambda m: m.ttft),
        itl=_average(view, lambda m: m.itl),
        e2e=_average(view, lambda m: m.e2e),
        queue=_average(view, lambda m: m.queue_time),
        hit_rate=_quotient(_all(view, lambda m: m.prefix_hit_rate), _all(view, lambda m: m.prefix_query_rate)),
        preemptions=_quotient(_all(view, lambda m: m.preemption_rate), requests),
        memory_bytes=max(_all(view, lambda m: m.memory_bytes), default=None),
    )


def _number(reading: Reading[float]) -> Reading[float]:
    if isinstance(reading, Known) and not (math.isfinite(reading.value) and reading.value >= 0):
        return Unknown(Why.NOT_A_NUMBER, f"the value is {reading.value}")
    return reading


def _all(view: RevisionView, pick: Callable[[PodMetrics], Reading[float]]) -> list[float]:
    readings = (_number(pick(pod.metrics)) for pod in view.ready_pods)
    return [reading.value for reading in readings if isinstance(reading, Known)]


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def _quotient(numerators: list[float], denominators: list[float]) -> float | None:
    whole = sum(denominators)
    return sum(numerators) / whole if numerators and whole > 0 else None


def _average(view: RevisionView, pick: Callable[[PodMetrics], Reading[Histogram]]) -> float | None:
    """The mean over the pods' observations; sums and counts add up whatever the buckets are."""
    sound = _sound(view, pick)
    count = sum(histogram.count for histogram in sound)
    return sum(histogram.total for histogram in sound) / count if count > 0 else None


def _sound(view: RevisionView, pick: Callable[[PodMetrics], Reading[Histogram]]) -> list[Histogram]:
    histograms = [r.value for pod in view.ready_pods if isinstance(r := pick(pod.metrics), Known)]
    return [h for h in histograms if math.isfinite(h.count) and math.isfinite(h.total) and h.count > 0 and h.total >= 0]


def _variation(view: RevisionView, pick: Callable[[PodMetrics], Reading[Histogram]]) -> float | None:
    """Standard deviation over mean, each observation taken at the middle of its bucket; 0 where one bucket has all.

    So lengths that are alike show none, and what buckets hide is left out.
    """
    count, first, second = 0.0, 0.0, 0.0
    for histogram in _sound(view, pick):
        below, lower = 0.0, 0.0
        for edge, cumulative in zip(histogram.bounds, histogram.cumulative, strict=True):
            middle = lower if math.isinf(edge) else (lower + edge) / 2.0
            first += (cumulative - below) * middle
            second += (cumulative - below) * middle * middle
            lower, below = (lower if math.isinf(edge) else edge), cumulative
        count += histogram.count
    if not (count > 0 and first > 0 and math.isfinite(second)):
        return None
    mean = first / count
    return math.sqrt(max(0.0, second / count - mean * mean)) / mean


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def told(load: Workload) -> str:
    """What runs and waits, as a part of a sentence."""
    text = f"{number(load.running)} requests run and {number(load.waiting)} wait per pod"
    if load.kv_usage is not None:
        text += f", {percent(load.kv_usage)} of the KV cache is used"
    if load.ttft is not None:
        text += f", the mean time to first token is {seconds(load.ttft)}"
    return text

"""From the series of a pod to its `PodMetrics`: every value Known, or Unknown with the reason; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trimtab.model.histogram import Histogram
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.snapshot import PodMetrics
from trimtab.observe import queries
from trimtab.observe.engines.spec import CounterRole, Engine, GaugeRole, HistogramRole
from trimtab.observe.prometheus import Sample, Vector
from trimtab.observe.promql import NAMESPACE, POD

PodKey = tuple[str, str]  # namespace, name
Answer = Vector | Unknown


@dataclass(slots=True)
class PodSeries:
    """What the answers hold about one pod."""

    values: dict[str, float] = field(default_factory=dict)
    buckets: dict[str, dict[float, float]] = field(default_factory=dict)
    capacity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers to one batch of queries."""

    freshness: Answer
    histograms: Answer
    counters: Answer
    gauges: Answer
    containers: Answer | None = None  # None: not asked
    gpu: Answer | None = None


def sorted_by_pod(answers: Answers, engine: Engine) -> dict[PodKey, PodSeries]:
    """All series, by the pod they are about."""
    found: dict[PodKey, PodSeries] = {}
    every = (answers.freshness, answers.histograms, answers.counters, answers.gauges, answers.containers, answers.gpu)
    for answer in every:
        for sample in () if answer is None or isinstance(answer, Unknown) else answer:
            labels = sample.labels
            pod = found.setdefault((labels.get(NAMESPACE, ""), labels.get(POD, "")), PodSeries())
            _note(pod, sample, engine)
    return found


def _note(pod: PodSeries, sample: Sample, engine: Engine) -> None:
    reading = sample.labels.get(queries.READING, "")
    if reading == queries.CAPACITY:
        pod.capacity = (pod.capacity or 0.0) + _capacity(sample, engine)
    elif queries.BUCKET in sample.labels:
        bound = _number(sample.labels[queries.BUCKET])
        pod.buckets.setdefault(reading, {})[bound] = sample.value
    else:
        pod.values[reading] = sample.value


def _capacity(sample: Sample, engine: Engine) -> float:
    """Tokens, from the labels of the info metric; the value counts the engines in the pod that are set up this way."""
    if engine.capacity is None:
        return math.nan
    whole = _number(sample.labels.get(engine.capacity.whole, ""))
    if math.isnan(whole):
        whole = math.prod(_number(sample.labels.get(factor, "")) for factor in engine.capacity.factors)
    return whole * sample.value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def state_of_pod(series: PodSeries | None, answer: Answer, *, stale_after: float) -> Reading[bool]:
    """Whether the pod's own metrics can be had at all: Known(True), or why not."""
    if isinstance(answer, Unknown):
        return answer
    values = series.values if series is not None else {}
    age, scrapes = values.get(queries.AGE), values.get(queries.SCRAPES, 0.0)
    if age is None:
        return _absent(values, scrapes)
    if math.isnan(age) or math.isnan(scrapes):
        return Unknown(Why.NOT_A_NUMBER, "Prometheus knows no number for the pod's metrics.")
    if age > stale_after:
        return Unknown(Why.STALE, f"The newest sample of this pod is {age:.0f} s old, more than {stale_after:.0f} s.")
    return Known(True, samples=scrapes)


def _absent(values: Mapping[str, float], scrapes: float) -> Unknown:
    if scrapes > 0:
        return Unknown(Why.STALE, "Prometheus has samples of this pod from the window, but none that is current.")
    up = values.get(queries.TARGET_UP)
    if up is None:
        return Unknown(Why.NOT_SCRAPED, "Prometheus has no series of this pod: it is not scraped, or not yet.")
    if up > 0:
        return Unknown(Why.NOT_EXPORTED, "Prometheus scrapes this pod, but it exports no metric of its engine.")
    return Unknown(Why.NOT_SCRAPED, "Prometheus tries to scrape this pod and gets no answer.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReader:
    """Reads one pod. `state`: what `state_of_pod` said of it; `window` in seconds."""

    engine: Engine
    window: float
    answers: Answers
    series: PodSeries
    state: Reading[bool]

    def metrics(self, *, speculative: bool) -> PodMetrics:
        """All readings; `speculative` reads the time per output token in the place of the step time."""
        histogram, rate, gauge = self._histogram, self._rate, self._gauge
        requests, errors = self._requests_and_errors()
        return PodMetrics(
            ttft=histogram(HistogramRole.TTFT),
            itl=histogram(HistogramRole.TPOT if speculative else HistogramRole.ITL),
            e2e=histogram(HistogramRole.E2E),
            queue_time=histogram(HistogramRole.QUEUE_TIME),
            prompt_tokens=histogram(HistogramRole.PROMPT_TOKENS),
            output_tokens=histogram(HistogramRole.OUTPUT_TOKENS),
            request_rate=requests,
            error_rate=errors,
            prompt_token_rate=rate(CounterRole.PROMPT_TOKENS),
            output_token_rate=rate(CounterRole.OUTPUT_TOKENS),
            preemption_rate=rate(CounterRole.PREEMPTIONS),
            prefix_query_rate=rate(CounterRole.PREFIX_QUERIES),
            prefix_hit_rate=rate(CounterRole.PREFIX_HITS),
            running=gauge(GaugeRole.RUNNING),
            waiting=gauge(GaugeRole.WAITING),
            kv_usage=gauge(GaugeRole.KV_USAGE),
            kv_capacity_tokens=self._capacity(),
            settings_id=gauge(GaugeRole.SETTINGS_ID),
            settings_refused=gauge(GaugeRole.SETTINGS_REFUSED),
            cpu_cores=self._container(queries.CPU, window=self.window),
            memory_bytes=self._container(queries.MEMORY, window=0.0),
            gpu_utilisation=self._gpu(queries.GPU_UTILISATION),
            gpu_memory_share=self._gpu(queries.GPU_MEMORY),
        )

    def uses_speculation(self) -> bool:
        """Whether drafts were made in the window."""
        return self.series.values.get(CounterRole.SPECULATIVE_STEPS, 0.0) > 0

    def _unreadable(self, answer: Answer) -> Unknown | None:
        if isinstance(self.state, Unknown):
            return self.state
        return answer if isinstance(answer, Unknown) else None

    def _missing(self, name: str) -> Unknown:
        """Why an increase is not there although the pod is scraped."""
        if isinstance(self.state, Known) and self.state.samples < 2:
            return Unknown(Why.TOO_FEW_SAMPLES, "The pod has been scraped once in the window; a change needs two.")
        if self.engine.lazy:
            return Unknown(Why.NO_TRAFFIC, f"The pod has not counted {name} yet.")
        return Unknown(Why.NOT_EXPORTED, f"The pod exports no metric for {name}.")

    def _histogram(self, role: HistogramRole) -> Reading[Histogram]:
        unreadable = self._unreadable(self.answers.histograms)
        if unreadable is not None:
            return unreadable
        if role not in self.engine.histograms:
            return Unknown(Why.NOT_EXPORTED, f"{self.engine.name} has no metric for {role.value}.")
        buckets = self.series.buckets.get(role)
        if not buckets:
            return self._missing(role.value)
        return histogram_reading(buckets, self.series.values.get(role, math.nan), self.window)

    def _increase(self, role: CounterRole) -> Reading[float]:
        unreadable = self._unreadable(self.answers.counters)
        if unreadable is not None:
            return unreadable
        if role not in self.engine.counters:
            return Unknown(Why.NOT_EXPORTED, f"{self.engine.name} has no metric for {role.value}.")
        value = self.series.values.get(role)
        if value is None:
            missing = self._missing(role.value)
            # A counter that appears with its first event has counted none so far.
            return self._counted(0.0) if missing.why is Why.NO_TRAFFIC else missing
        return self._counted(value)

    def _counted(self, value: float) -> Reading[float]:
        if not math.isfinite(value):
            return Unknown(Why.NOT_A_NUMBER, "Prometheus knows no number for this counter.")
        return Known(max(0.0, value), window=self.window, samples=max(0.0, value))

    def _rate(self, role: CounterRole) -> Reading[float]:
        return _per_second(self._increase(role), self.window)

    def _requests_and_errors(self) -> tuple[Reading[float], Reading[float]]:
        """Requests that ended or were refused, and those among them that failed on the server's side.

        The engine's and the HTTP server's counts of errors overlap: the larger one is taken, and what only the HTTP
        server saw is added to the requests.
        """
        finished = self._increase(CounterRole.FINISHED)
        if isinstance(finished, Unknown):
            return finished, finished
        # Known to be there, so the pod is readable and an absent further counter has counted nothing.
        failed, refused, answers = (
            _or_zero(self._increase(role))
            for role in (CounterRole.FAILED, CounterRole.REFUSED, CounterRole.SERVER_ERRORS)
        )
        errors = max(failed + refused, answers)
        requests = finished.value + refused + max(0.0, errors - failed - refused)
        return _per_second(self._counted(requests), self.window), _per_second(self._counted(errors), self.window)

    def _gauge(self, role: GaugeRole) -> Reading[float]:
        unreadable = self._unreadable(self.answers.gauges)
        if unreadable is not None:
            return unreadable
        if role not in self.engine.gauges:
            return Unknown(Why.NOT_EXPORTED, f"{self.engine.name} has no metric for {role.value}.")
        scrapes = self.state.samples if isinstance(self.state, Known) else 0.0
        return _value(
            self.series.values.get(role), f"The pod exports no metric for {role.value}.", self.window, scrapes
        )

    def _capacity(self) -> Reading[float]:
        if self.engine.capacity is None:
            return self._gauge(GaugeRole.KV_CAPACITY)
        unreadable = self._unreadable(self.answers.gauges)
        if unreadable is not None:
            return unreadable
        return _value(self.series.capacity, "The pod does not say how many tokens its KV cache holds.", 0.0, 1.0)

    def _container(self, reading: str, *, window: float) -> Reading[float]:
        answer = self.answers.containers
        if answer is None:
            return Unknown(Why.NOT_SCRAPED, "The container metrics have not been read.")
        if isinstance(answer, Unknown):
            return answer
        value = self.series.values.get(reading)
        if value is None:
            return Unknown(Why.NOT_SCRAPED, "Prometheus has no container metrics of this pod.")
        return _value(value, "", window, 1.0)

    def _gpu(self, reading: str) -> Reading[float]:
        answer = self.answers.gpu
        if answer is None:
            return Unknown(Why.NOT_SCRAPED, "GPU metrics have not been read.")
        if isinstance(answer, Unknown):
            return answer
        value = self.series.values.get(reading)
        if value is None:
            return Unknown(Why.NOT_SCRAPED, "Prometheus has no GPU metrics of this pod: DCGM is not scraped.")
        return _value(value, "", self.window, 1.0)


def histogram_reading(buckets: Mapping[float, float], total: float, window: float) -> Reading[Histogram]:
    """A histogram from the increase of its buckets; NoTraffic when nothing was counted."""
    bounds = sorted(bound for bound in buckets if not math.isnan(bound))
    if not bounds or bounds[-1] != math.inf:
        return Unknown(Why.BAD_ANSWER, "A histogram has no bucket for +Inf, so its observations cannot be counted.")
    if any(not math.isfinite(buckets[bound]) for bound in bounds):
        return Unknown(Why.NOT_A_NUMBER, "Prometheus knows no number for a histogram's buckets.")
    cumulative = tuple(_rising(max(0.0, buckets[bound]) for bound in bounds))
    if cumulative[-1] <= 0:
        return Unknown(Why.NO_TRAFFIC, "The pod is scraped and has served no request in the window.")
    if not math.isfinite(total):
        return Unknown(Why.NOT_A_NUMBER, "Prometheus knows no number for a histogram's sum.")
    return Known(Histogram(tuple(bounds), cumulative, max(0.0, total)), window=window, samples=cumulative[-1])


def _rising(values: Iterable[float]) -> Iterable[float]:
    """Buckets that are scraped in the middle of an update, or extrapolated, may fall by a hair: they never do here."""
    highest = 0.0
    for value in values:
        highest = max(highest, value)
        yield highest


def _per_second(reading: Reading[float], window: float) -> Reading[float]:
    if isinstance(reading, Unknown):
        return reading
    return Known(reading.value / window, window=window, samples=reading.samples)


def _or_zero(reading: Reading[float]) -> float:
    return reading.value if isinstance(reading, Known) else 0.0


def _value(value: float | None, missing: str, window: float, samples: float) -> Reading[float]:
    if value is None:
        return Unknown(Why.NOT_EXPORTED, missing)
    if not math.isfinite(value):
        return Unknown(Why.NOT_A_NUMBER, "Prometheus knows no number for this metric.")
    return Known(value, window=window, samples=samples)

"""Reads one engine's own /metrics twice and makes a Snapshot of the difference: a diagnosis without a cluster."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import requests
from prometheus_client.parser import text_string_to_metric_families

from trimtab.model.reading import Known
from trimtab.model.snapshot import ObservedPod, PodFacts, RevisionView, Snapshot
from trimtab.observe import queries
from trimtab.observe.assemble import Answers, PodReader, PodSeries
from trimtab.observe.engines import detected
from trimtab.observe.engines.spec import CounterSpec, Engine, GaugeSpec, HistogramRole, Name, metrics_in, parse_version
from trimtab.observe.http import BoundedSession, Limits, NotAnAnswer, checked_url
from trimtab.observe.promql import Matcher

REVISION = "current"
_LIMITS = Limits(max_bytes=16 * 1024 * 1024)


class DiagnoseError(Exception):
    """The message says what is wrong with the address or with what it serves."""


@dataclass(frozen=True, slots=True)
class Series:
    """One sample of an exposition."""

    name: str
    labels: Mapping[str, str]
    value: float


def read_snapshot(
    url: str,
    *,
    seconds: float = 15.0,
    version: str = "",
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> Snapshot:
    """Reads `url` (a missing path means /metrics) now and again after `seconds`.

    Without `version` every name that an engine has ever used is looked for. Raises DiagnoseError.
    """
    if seconds <= 0:
        raise DiagnoseError("The time between the two readings must be longer than nothing.")
    try:
        address = checked_url(url)
    except ValueError as error:
        raise DiagnoseError(f"This address cannot be read: {error}.") from error
    parts = urlsplit(address)
    address = urlunsplit(parts._replace(path=parts.path if parts.path.strip("/") else "/metrics", fragment=""))
    with BoundedSession(_LIMITS) as session:
        before, began = _fetched(session, address), clock()
        sleep(seconds)
        after, ended = _fetched(session, address), clock()
    return snapshot_between(
        before, after, seconds=max(ended - began, 1e-3), at=wall(), name=parts.netloc, version=version
    )


def _fetched(session: BoundedSession, url: str) -> str:
    try:
        return session.request("GET", url).content.decode("utf-8", errors="replace")
    except NotAnAnswer as error:
        raise DiagnoseError(f"{url} cannot be read: {error}.") from error
    except requests.exceptions.Timeout as error:
        raise DiagnoseError(f"{url} did not answer in time.") from error
    except (requests.exceptions.RequestException, ValueError) as error:
        raise DiagnoseError(f"{url} cannot be reached ({type(error).__name__}).") from error


def snapshot_between(before: str, after: str, *, seconds: float, at: float, name: str, version: str = "") -> Snapshot:
    """What happened between two expositions, `seconds` apart, as the snapshot of one pod."""
    first, second = list(_parsed(before)), list(_parsed(after))
    engine = detected(series.name for series in second)
    if engine is None:
        raise DiagnoseError("These are not the metrics of vLLM, SGLang or TGI (SGLang needs --enable-metrics).")
    reader = PodReader(
        engine=engine,
        window=seconds,
        answers=Answers(freshness=(), histograms=(), counters=(), gauges=()),
        series=_Difference(engine, first, second, version).pod(),
        state=Known(True, window=seconds, samples=2),
    )
    pod = ObservedPod(
        PodFacts(name=name, revision=REVISION, ready=True), reader.metrics(speculative=reader.uses_speculation())
    )
    return Snapshot(
        namespace="",
        name=name,
        at=at,
        window=seconds,
        engine=engine.name,
        engine_version=version,
        revisions=(RevisionView(REVISION, (pod,)),),
        metrics=Known(True, window=seconds, samples=2),
    )


def _parsed(text: str) -> Iterator[Series]:
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                yield Series(sample.name, sample.labels, float(sample.value))
    except (ValueError, KeyError, IndexError) as error:
        raise DiagnoseError("The answer is not in the text format of Prometheus metrics.") from error


class _Difference:
    """Evaluates an engine's roles on two expositions, as the queries do on a window of Prometheus."""

    def __init__(self, engine: Engine, first: Sequence[Series], second: Sequence[Series], version: str) -> None:
        self._engine = engine
        self._version = parse_version(version)
        self._first = _by_name(first)
        self._second = _by_name(second)

    def pod(self) -> PodSeries:
        pod = PodSeries()
        for role, names in self._engine.histograms.items():
            self._histogram(pod, role, names)
        for counter, spec in self._engine.counters.items():
            _note(pod.values, counter, self._counter(spec))
        for gauge, form in self._engine.gauges.items():
            _note(pod.values, gauge, self._gauge(form))
        pod.capacity = self._capacity()
        return pod

    def _present(self, names: tuple[Name, ...], suffix: str = "") -> str | None:
        """The first name of ours that the engine exports."""
        return next((name + suffix for name in metrics_in(names, self._version) if name + suffix in self._second), None)

    def _histogram(self, pod: PodSeries, role: HistogramRole, names: tuple[Name, ...]) -> None:
        name = self._present(names, "_bucket")
        if name is None:
            return
        for series, grown in self._increases(name, ()):
            bounds = pod.buckets.setdefault(role, {})
            bound = float(series.labels.get(queries.BUCKET, "nan"))
            bounds[bound] = bounds.get(bound, 0.0) + grown
        total = name.removesuffix("_bucket") + "_sum"
        pod.values[role] = sum(grown for _, grown in self._increases(total, ()))

    def _counter(self, spec: CounterSpec) -> float | None:
        name = self._present(spec.names)
        if name is None:
            return None
        grown = [increase for _, increase in self._increases(name, spec.matchers)]
        return sum(grown) if grown else None

    def _increases(self, name: str, matchers: Iterable[Matcher]) -> Iterator[tuple[Series, float]]:
        """Each series with its growth; a counter that fell was reset, and counts from nothing."""
        before = {_identity(series): series.value for series in self._first.get(name, ())}
        for series in self._second.get(name, ()):
            if _matches(series, matchers):
                start = before.get(_identity(series), 0.0)
                yield series, series.value - start if series.value >= start else series.value

    def _gauge(self, spec: GaugeSpec) -> float | None:
        value = self._instants(spec, spec.names)
        if value is None or not spec.divided_by:
            return value
        whole = self._instants(spec, spec.divided_by)
        return value / whole if whole else None

    def _instants(self, spec: GaugeSpec, names: tuple[Name, ...]) -> float | None:
        name = self._present(names)
        if name is None:
            return None
        both = [_combined(spec, place[name]) for place in (self._first, self._second) if name in place]
        return max(both) if spec.over == "max_over_time" else sum(both) / len(both)

    def _capacity(self) -> float | None:
        spec = self._engine.capacity
        name = self._present(spec.names) if spec is not None else None
        if spec is None or name is None:
            return None
        total = 0.0
        for series in self._second[name]:
            whole = _label_number(series, spec.whole)
            if math.isnan(whole):
                whole = math.prod(_label_number(series, factor) for factor in spec.factors)
            total += whole * series.value
        return total


def _combined(spec: GaugeSpec, series: Sequence[Series]) -> float:
    """Over a pod: copies of one part count once, then parts are combined."""
    parts: dict[tuple[str, ...], float] = {}
    for each in series:
        labels = sorted(each.labels) if spec.keep is None else spec.keep
        part = tuple(each.labels.get(label, "") for label in labels)
        parts[part] = max(parts.get(part, -math.inf), each.value)
    return max(parts.values()) if spec.combine == "max" else sum(parts.values())


def _by_name(series: Iterable[Series]) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for each in series:
        found.setdefault(each.name, []).append(each)
    return found


def _identity(series: Series) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(series.labels.items()))


def _matches(series: Series, matchers: Iterable[Matcher]) -> bool:
    return all(_match(series.labels.get(matcher.label, ""), matcher) for matcher in matchers)


def _match(value: str, matcher: Matcher) -> bool:
    if matcher.operator in ("=", "!="):
        return (value == matcher.value) == (matcher.operator == "=")
    return (re.fullmatch(matcher.value, value) is not None) == (matcher.operator == "=~")


def _label_number(series: Series, label: str) -> float:
    try:
        return float(series.labels.get(label, ""))
    except ValueError:
        return math.nan


def _note(values: dict[str, float], role: str, value: float | None) -> None:
    if value is not None:
        values[role] = value

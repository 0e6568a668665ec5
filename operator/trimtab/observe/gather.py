"""Reads the metrics of many deployments with a number of queries that does not grow with the number of readings.

Deployments of one engine and version share their queries; a query names at most `_PODS_PER_QUERY` pods. So a thousand
pods of one engine cost five queries for every hundred of them and cycle, whichever deployments they belong to.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.snapshot import PodMetrics
from trimtab.observe import queries
from trimtab.observe.assemble import Answer, Answers, PodKey, PodReader, PodSeries, sorted_by_pod, state_of_pod
from trimtab.observe.engines import ENGINES
from trimtab.observe.engines.spec import Engine, parse_version
from trimtab.observe.prometheus import Prometheus
from trimtab.observe.promql import Scope

_PODS_PER_QUERY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A deployment and the pods of it whose metrics are wanted. `gpu`: whether they ask for GPUs."""

    namespace: str
    name: str
    engine: str
    version: str
    pods: tuple[str, ...]
    gpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsRead:
    """The readings of one deployment's pods over `window` seconds up to `at`.

    `overall`: Known(True) when at least one pod can be read; else Unknown, and then nothing may be decided from the
    rest.
    """

    at: float
    window: float
    overall: Reading[bool]
    pods: Mapping[str, PodMetrics] = field(default_factory=dict)

    def pod(self, name: str) -> PodMetrics:
        """The readings of a pod; all Unknown for one that was not asked about."""
        return self.pods.get(name) or PodMetrics()


def stale_bound(scrape_interval: float) -> float:
    """The age in seconds from which a sample is no longer the present: three scrapes missed, and 30 s at the least."""
    return max(30.0, 3 * scrape_interval)


async def read_metrics(
    prometheus: Prometheus, targets: Sequence[Target], *, window: float, now: float, stale_after: float = 30.0
) -> dict[tuple[str, str], MetricsRead]:
    """Every target's readings by (namespace, name). Never raises for what Prometheus says or does not say.

    `window` in seconds; `now` is only noted as the time of reading: windows and ages are taken by Prometheus' own
    clock, so a clock that is off on either side changes nothing.
    """
    if window <= 0:
        raise ValueError("the window must be longer than nothing")
    read: dict[tuple[str, str], MetricsRead] = {}
    groups: dict[tuple[str, str], list[Target]] = defaultdict(list)
    for target in targets:
        if target.engine in ENGINES:
            groups[target.engine, target.version].append(target)
        else:
            why = Unknown(Why.NOT_EXPORTED, f"The metrics of the engine {target.engine!r} are not known.")
            read[target.namespace, target.name] = MetricsRead(at=now, window=window, overall=why)
    gathered = await asyncio.gather(
        *(_read_group(prometheus, group, window, now, stale_after) for group in groups.values())
    )
    for part in gathered:
        read.update(part)
    return read


async def _read_group(
    prometheus: Prometheus, targets: Sequence[Target], window: float, now: float, stale_after: float
) -> dict[tuple[str, str], MetricsRead]:
    engine = ENGINES[targets[0].engine]
    pods = sorted({(target.namespace, pod) for target in targets for pod in target.pods})
    with_gpu = {(target.namespace, pod) for target in targets if target.gpu for pod in target.pods}
    readers: dict[PodKey, PodReader] = {}
    chunks = list(_chunks(pods))
    answers = await asyncio.gather(
        *(
            _ask(prometheus, engine, targets[0].version, chunk, window, gpu=bool(with_gpu & set(chunk)))
            for chunk in chunks
        )
    )
    for chunk, answer in zip(chunks, answers, strict=True):
        series = sorted_by_pod(answer, engine)
        for key in chunk:
            state = state_of_pod(series.get(key), answer.freshness, stale_after=stale_after)
            readers[key] = PodReader(
                engine=engine, window=window, answers=answer, series=series.get(key, PodSeries()), state=state
            )
    return {(target.namespace, target.name): _of_target(target, readers, window=window, now=now) for target in targets}


def _chunks(pods: Sequence[PodKey]) -> Iterator[Sequence[PodKey]]:
    for start in range(0, len(pods), _PODS_PER_QUERY):
        yield pods[start : start + _PODS_PER_QUERY]


async def _ask(
    prometheus: Prometheus, engine: Engine, version: str, pods: Sequence[PodKey], window: float, *, gpu: bool
) -> Answers:
    """Names of pods may repeat across namespaces, so a query can select more than these pods; what is more is left."""
    scope = Scope(tuple(sorted({space for space, _ in pods})), tuple(sorted({name for _, name in pods})))
    known = parse_version(version)
    freshness = await prometheus.query(queries.freshness(engine, known, scope, window))
    if isinstance(freshness, Unknown):  # no use, and no kindness, in asking a sick server five times
        return Answers(freshness=freshness, histograms=freshness, counters=freshness, gauges=freshness)
    asked = [
        queries.histograms(engine, known, scope, window),
        queries.counters(engine, known, scope, window),
        queries.gauges(engine, known, scope, window),
        queries.containers(scope, window),
    ]
    asked += [queries.gpu(scope, window)] if gpu else []
    got: list[Answer] = await asyncio.gather(*(prometheus.query(expression) for expression in asked))
    return Answers(
        freshness=freshness,
        histograms=got[0],
        counters=got[1],
        gauges=got[2],
        containers=got[3],
        gpu=got[4] if gpu else None,
    )


def _of_target(target: Target, readers: Mapping[PodKey, PodReader], *, window: float, now: float) -> MetricsRead:
    mine = {pod: readers[target.namespace, pod] for pod in target.pods}
    # One definition of the time between tokens for all pods of a deployment, or they could not be compared.
    speculative = any(reader.uses_speculation() for reader in mine.values())
    return MetricsRead(
        at=now,
        window=window,
        overall=_overall(list(mine.values()), window),
        pods={pod: reader.metrics(speculative=speculative) for pod, reader in mine.items()},
    )


def _overall(readers: Sequence[PodReader], window: float) -> Reading[bool]:
    if not readers:
        return Unknown(Why.NOT_SCRAPED, "There is no pod to read metrics of.")
    for reader in readers:
        for answer in (reader.answers.histograms, reader.answers.counters, reader.answers.gauges):
            if isinstance(answer, Unknown):
                return answer
    states = [reader.state for reader in readers]
    readable = [state for state in states if isinstance(state, Known)]
    if readable:
        return Known(True, window=window, samples=max(state.samples for state in readable))
    return next(state for state in states if isinstance(state, Unknown))

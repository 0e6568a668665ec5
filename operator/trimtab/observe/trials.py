"""Reads what the pods of deployments on trial added to their metrics, scrape by scrape, in few queries.

Deployments of one engine and version share their queries: three range queries for every `_PODS_PER_QUERY` pods.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.model.reading import Unknown, Why
from trimtab.model.samples import PodSamples
from trimtab.observe import queries
from trimtab.observe.engines import ENGINES
from trimtab.observe.engines.spec import Engine, parse_version
from trimtab.observe.gather import Target
from trimtab.observe.prometheus import Matrix, Prometheus, Series
from trimtab.observe.promql import Scope
from trimtab.observe.recorded import PodKey, PodRanges, by_pod, samples_of

# Some eighty series each, at two hundred and forty steps: a hundred times the values of the instant queries.
_PODS_PER_QUERY = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Instants (whole seconds since the epoch) at which the series are read: from `start` every `step` to `end`."""

    start: float
    end: float
    step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRead:
    """The samples of each pod by its name; `scrape_interval`: the seconds between two scrapes, of the slowest pod."""

    pods: Mapping[str, PodSamples]
    scrape_interval: float


async def read_trials(
    prometheus: Prometheus, targets: Sequence[Target], steps: Steps, *, stale_after: float = 30.0
) -> dict[tuple[str, str], TrialRead | Unknown]:
    """Every target's samples by (namespace, name), or why there are none. Never raises for what Prometheus says.

    A pod that Prometheus knows nothing of has no series. The instants are the operator's: where its clock is ahead of
    Prometheus' by more than `stale_after` seconds, all samples look old and nothing is decided from them.
    """
    read: dict[tuple[str, str], TrialRead | Unknown] = {}
    groups: dict[tuple[str, str], list[Target]] = defaultdict(list)
    for target in targets:
        if target.engine in ENGINES:
            groups[target.engine, target.version].append(target)
        else:
            message = f"The metrics of the engine {target.engine!r} are not known."
            read[target.namespace, target.name] = Unknown(Why.NOT_EXPORTED, message)
    for part in await asyncio.gather(
        *(_read_group(prometheus, group, steps, stale_after) for group in groups.values())
    ):
        read.update(part)
    return read


async def _read_group(
    prometheus: Prometheus, targets: Sequence[Target], steps: Steps, stale_after: float
) -> dict[tuple[str, str], TrialRead | Unknown]:
    engine, version = ENGINES[targets[0].engine], targets[0].version
    pods = sorted({(target.namespace, pod) for target in targets for pod in target.pods})
    chunks = [pods[place : place + _PODS_PER_QUERY] for place in range(0, len(pods), _PODS_PER_QUERY)]
    ranges: dict[PodKey, PodRanges] = {}
    missing: dict[PodKey, Unknown] = {}
    for chunk, answer in zip(
        chunks, await asyncio.gather(*(_ask(prometheus, engine, version, one, steps) for one in chunks)), strict=True
    ):
        if isinstance(answer, Unknown):
            missing.update(dict.fromkeys(chunk, answer))
        else:
            ranges.update(by_pod(answer))
    return {
        (target.namespace, target.name): _of_target(target, engine, ranges, missing, stale_after) for target in targets
    }


async def _ask(
    prometheus: Prometheus, engine: Engine, version: str, pods: Sequence[PodKey], steps: Steps
) -> Matrix | Unknown:
    scope = Scope(tuple(sorted({space for space, _ in pods})), tuple(sorted({name for _, name in pods})))
    known, found = parse_version(version), list[Series]()
    # One after the other: no use, and no kindness, in asking a sick server three times.
    for expression in (
        queries.raw_states(engine, known, scope),
        queries.raw_counters(engine, known, scope),
        queries.raw_histograms(engine, known, scope),
    ):
        answer = await prometheus.query_range(expression, start=steps.start, end=steps.end, step=steps.step)
        if isinstance(answer, Unknown):
            return answer
        found += answer
    return tuple(found)


def _of_target(
    target: Target,
    engine: Engine,
    ranges: Mapping[PodKey, PodRanges],
    missing: Mapping[PodKey, Unknown],
    stale_after: float,
) -> TrialRead | Unknown:
    keys = [(target.namespace, pod) for pod in target.pods]
    for key in keys:
        if key in missing:
            return missing[key]
    mine = {key: ranges.get(key, PodRanges()) for key in keys}
    # One definition of the time between tokens for all pods of a deployment, or they could not be compared.
    speculative = any(one.uses_speculation() for one in mine.values())
    read = [
        samples_of(name, one, engine, speculative=speculative, stale_after=stale_after)
        for (_, name), one in mine.items()
    ]
    return TrialRead(
        pods={pod.name: pod for pod, _ in read}, scrape_interval=max((between for _, between in read), default=0.0)
    )

"""The few queries that read everything about many pods at once; pure text.

Each answer carries several readings, told apart by the label `reading`, and one series for each pod (and bucket).
"""

from __future__ import annotations

from trimtab.observe.engines.spec import (
    CounterRole,
    Engine,
    GaugeRole,
    GaugeSpec,
    HistogramRole,
    InfoSpec,
    Name,
    Version,
    metrics_in,
)
from trimtab.observe.promql import NAMESPACE, POD, Matcher, Scope, either, grouped, over, renamed, tagged

READING = "reading"
BUCKET = "le"
AGE, SCRAPES, TARGET_UP = "age", "scrapes", "up"
SAMPLED_AT = "sampled_at"
CAPACITY = "capacity"
CPU, MEMORY = "cpu_cores", "memory_bytes"
GPU_UTILISATION, GPU_MEMORY = "gpu_utilisation", "gpu_memory_share"

JUDGED_HISTOGRAMS = (HistogramRole.TTFT, HistogramRole.ITL, HistogramRole.TPOT, HistogramRole.E2E)
JUDGED_COUNTERS = frozenset(
    {
        CounterRole.FINISHED,
        CounterRole.FAILED,
        CounterRole.REFUSED,
        CounterRole.SERVER_ERRORS,
        CounterRole.OUTPUT_TOKENS,
        CounterRole.PREEMPTIONS,
        CounterRole.SPECULATIVE_STEPS,
    }
)

_PER_POD = (NAMESPACE, POD)
# The kubelet looks at its containers every ten to fifteen seconds, so a shorter range may hold one sample only.
_SHORTEST_CONTAINER_WINDOW = 60.0
# Not the sums over a pod, and not the container that only holds the network namespace.
_REAL_CONTAINERS = (Matcher("container", "!=", ""), Matcher("container", "!=", "POD"))


def freshness(engine: Engine, version: Version | None, scope: Scope, window: float) -> str:
    """Per pod: the age of the newest sample by Prometheus' own clock, the scrapes in the window, and whether the target
    answers scrapes at all.
    """
    names = metrics_in(engine.alive, version)
    newest = either(grouped("max", _PER_POD, f"timestamp({scope.select(name)})") for name in names)
    scrapes = either(grouped("max", _PER_POD, over("count_over_time", scope.select(name), window)) for name in names)
    answers = grouped("max", _PER_POD, scope.select("up"))
    return either(
        (
            tagged(f"time() - ({newest})", READING, AGE),
            tagged(scrapes, READING, SCRAPES),
            tagged(answers, READING, TARGET_UP),
        )
    )


def histograms(engine: Engine, version: Version | None, scope: Scope, window: float) -> str:
    """Per pod and role: the increase of every bucket, and without a bucket label that of the sum."""
    parts: list[str] = []
    for role in HistogramRole:
        names = engine.histograms.get(role, ())
        if names:
            parts.append(tagged(_increase(names, version, scope, window, suffix="_bucket"), READING, role.value))
            parts.append(tagged(_increase(names, version, scope, window, suffix="_sum"), READING, role.value))
    return either(parts)


def counters(engine: Engine, version: Version | None, scope: Scope, window: float) -> str:
    """Per pod and role: the increase over the window."""
    return either(
        tagged(_increase(spec.names, version, scope, window, matchers=spec.matchers), READING, role.value)
        for role, spec in sorted(engine.counters.items())
    )


def gauges(engine: Engine, version: Version | None, scope: Scope, window: float) -> str:
    """Per pod and role: the gauge, summarised over the window; and the info metric that holds the capacity."""
    parts = [
        tagged(_gauge(spec, version, scope, window), READING, role.value)
        for role, spec in sorted(engine.gauges.items())
    ]
    if engine.capacity is not None:
        parts.append(tagged(_info(engine.capacity, version, scope), READING, CAPACITY))
    return either(parts)


def containers(scope: Scope, window: float) -> str:
    """Per pod: CPU cores used, and the working set in bytes, of all its real containers."""
    seconds = max(window, _SHORTEST_CONTAINER_WINDOW)
    cpu = over("rate", scope.select("container_cpu_usage_seconds_total", _REAL_CONTAINERS), seconds)
    memory = scope.select("container_memory_working_set_bytes", _REAL_CONTAINERS)
    return either(
        (
            tagged(grouped("sum", _PER_POD, cpu), READING, CPU),
            tagged(grouped("sum", _PER_POD, memory), READING, MEMORY),
        )
    )


def gpu(scope: Scope, window: float) -> str:
    """Per pod: the share of time that its GPUs computed, and the share of their memory that is taken (DCGM exporter).

    The exporter's pod labels arrive as `exported_pod` where Prometheus keeps the labels of the scraped target.
    """
    exported = Scope(scope.namespaces, scope.pods, f"exported_{NAMESPACE}", f"exported_{POD}")
    utilisation = either(_as_pod(_utilisation(each, window), each) for each in (scope, exported))
    memory = either(_as_pod(_memory_share(each), each) for each in (scope, exported))
    return either((tagged(utilisation, READING, GPU_UTILISATION), tagged(memory, READING, GPU_MEMORY)))


def raw_states(engine: Engine, version: Version | None, scope: Scope) -> str:
    """Per pod, for ranges: when the newest sample was taken, and each gauge as it was."""
    names = metrics_in(engine.alive, version)
    newest = either(grouped("max", _PER_POD, f"timestamp({scope.select(name)})") for name in names)
    gauges = [
        tagged(_gauge(engine.gauges[role], version, scope, None), READING, role.value)
        for role in (GaugeRole.RUNNING, GaugeRole.WAITING, GaugeRole.KV_USAGE)
        if role in engine.gauges
    ]
    return either([tagged(newest, READING, SAMPLED_AT), *gauges])


def raw_counters(engine: Engine, version: Version | None, scope: Scope) -> str:
    """Per pod and role, for ranges: the counter since the pod's start, where the role is judged."""
    return either(
        tagged(
            either(
                grouped("sum", _PER_POD, scope.select(name, spec.matchers)) for name in metrics_in(spec.names, version)
            ),
            READING,
            role.value,
        )
        for role, spec in sorted(engine.counters.items())
        if role in JUDGED_COUNTERS
    )


def raw_histograms(engine: Engine, version: Version | None, scope: Scope) -> str:
    """Per pod and role, for ranges: every bucket since the pod's start, and without a bucket label the sum."""
    parts: list[str] = []
    for role in JUDGED_HISTOGRAMS:
        names = metrics_in(engine.histograms[role], version) if role in engine.histograms else ()
        for suffix, labels in (("_bucket", (*_PER_POD, BUCKET)), ("_sum", _PER_POD)):
            if names:
                series = either(grouped("sum", labels, scope.select(name + suffix)) for name in names)
                parts.append(tagged(series, READING, role.value))
    return either(parts)


def _increase(
    names: tuple[Name, ...],
    version: Version | None,
    scope: Scope,
    window: float,
    *,
    suffix: str = "",
    matchers: tuple[Matcher, ...] = (),
) -> str:
    labels = (*_PER_POD, BUCKET) if suffix == "_bucket" else _PER_POD
    return either(
        grouped("sum", labels, over("increase", scope.select(name + suffix, matchers), window))
        for name in metrics_in(names, version)
    )


def _gauge(spec: GaugeSpec, version: Version | None, scope: Scope, window: float | None) -> str:
    """Summarised over the window; as it is where there is none."""

    def combined(names: tuple[Name, ...]) -> str:
        selected = [scope.select(name, spec.matchers) for name in metrics_in(names, version)]
        series = selected if window is None else [over(spec.over, one, window) for one in selected]
        if spec.keep is None:
            return either(grouped(spec.combine, _PER_POD, one) for one in series)
        return either(grouped(spec.combine, _PER_POD, grouped("max", (*_PER_POD, *spec.keep), one)) for one in series)

    if not spec.divided_by:
        return combined(spec.names)
    return f"({combined(spec.names)}) / (({combined(spec.divided_by)}) > 0)"


def _info(spec: InfoSpec, version: Version | None, scope: Scope) -> str:
    labels = (*_PER_POD, spec.whole, *spec.factors)
    return either(grouped("sum", labels, scope.select(name)) for name in metrics_in(spec.names, version))


def _labels(scope: Scope) -> tuple[str, str]:
    return scope.namespace_label, scope.pod_label


def _utilisation(scope: Scope, window: float) -> str:
    """In percent as the driver says it, or as the profiler's share where that is not to be had (MIG)."""
    percent = grouped("avg", _labels(scope), over("avg_over_time", scope.select("DCGM_FI_DEV_GPU_UTIL"), window))
    active = over("avg_over_time", scope.select("DCGM_FI_PROF_GR_ENGINE_ACTIVE"), window)
    return either((f"{percent} / 100", grouped("avg", _labels(scope), active)))


def _memory_share(scope: Scope) -> str:
    used, free, reserved = (
        grouped("sum", _labels(scope), scope.select(f"DCGM_FI_DEV_FB_{part}")) for part in ("USED", "FREE", "RESERVED")
    )
    # Older exporters do not say what the driver reserves.
    return f"{used} / ({used} + {free} + ({reserved} or {used} * 0))"


def _as_pod(expression: str, scope: Scope) -> str:
    if _labels(scope) == _PER_POD:
        return expression
    named = renamed(renamed(expression, scope.pod_label, POD), scope.namespace_label, NAMESPACE)
    return grouped("max", _PER_POD, named)

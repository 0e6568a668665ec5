"""What is known about one deployment at one instant: gathered once by `observe`, then only read.

All times are seconds; instants are seconds since the epoch, passed in by the shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from trimtab.model.histogram import Histogram, merged
from trimtab.model.reading import Known, Reading, Unknown, Why

_NOT_READ = Unknown(Why.NOT_SCRAPED, "This value has not been read.")


@dataclass(frozen=True, slots=True)
class PodMetrics:
    """Readings of one serving pod over one window. Histograms are window deltas; rates are per second."""

    # Latencies, seconds.
    ttft: Reading[Histogram] = _NOT_READ
    itl: Reading[Histogram] = _NOT_READ
    e2e: Reading[Histogram] = _NOT_READ
    queue_time: Reading[Histogram] = _NOT_READ
    # Lengths, tokens.
    prompt_tokens: Reading[Histogram] = _NOT_READ
    output_tokens: Reading[Histogram] = _NOT_READ
    # Rates per second over the window.
    request_rate: Reading[float] = _NOT_READ  # requests that ended, however they ended
    error_rate: Reading[float] = _NOT_READ  # requests that ended in an error or were refused
    prompt_token_rate: Reading[float] = _NOT_READ
    output_token_rate: Reading[float] = _NOT_READ
    preemption_rate: Reading[float] = _NOT_READ
    prefix_query_rate: Reading[float] = _NOT_READ  # tokens looked up per second
    prefix_hit_rate: Reading[float] = _NOT_READ  # tokens found per second
    # Gauges.
    running: Reading[float] = _NOT_READ  # mean over the window
    waiting: Reading[float] = _NOT_READ  # mean over the window
    kv_usage: Reading[float] = _NOT_READ  # 0 to 1, maximum over the window
    kv_capacity_tokens: Reading[float] = _NOT_READ
    settings_id: Reading[float] = _NOT_READ  # of the settings in force, where the engine has a settings file
    settings_refused: Reading[float] = _NOT_READ  # 1 while the engine refuses its settings file
    # The container.
    cpu_cores: Reading[float] = _NOT_READ
    memory_bytes: Reading[float] = _NOT_READ
    # The GPU, where DCGM is scraped.
    gpu_utilisation: Reading[float] = _NOT_READ  # 0 to 1
    gpu_memory_share: Reading[float] = _NOT_READ  # 0 to 1


class PodTrouble(StrEnum):
    """What keeps a pod from serving, as its status shows it."""

    CRASH_LOOP = "CrashLoop"
    OOM_KILLED = "OOMKilled"
    IMAGE_PULL = "ImagePull"
    UNSCHEDULABLE = "Unschedulable"
    CONFIG_ERROR = "ConfigError"


class Live(StrEnum):
    """Whether an engine with live knobs has the settings of its revision, as its metrics say."""

    IN_FORCE = "InForce"
    PENDING = "Pending"  # it has others, or none
    REFUSED = "Refused"  # it refuses its settings file, and keeps what it had
    UNKNOWN = "Unknown"  # its metrics cannot be read


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod as the API server describes it."""

    name: str
    revision: str
    ready: bool
    terminating: bool = False
    restarts: int = 0
    oom_kills: int = 0
    trouble: PodTrouble | None = None
    trouble_message: str = ""  # the container's last words, cut to a sentence
    created_at: float = 0.0
    ready_since: float | None = None
    address: str = ""  # its IP address; empty until it has one
    live: Live | None = None  # None: its engine has no live knobs
    carrier: str = ""  # the revision whose workload it belongs to; empty: its own

    @property
    def workload(self) -> str:
        """The revision that its workload is named after."""
        return self.carrier or self.revision


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """A pod with its readings."""

    facts: PodFacts
    metrics: PodMetrics


@dataclass(frozen=True, slots=True)
class RevisionView:
    """All pods of one revision: the unit that is compared, promoted and rolled back."""

    revision: str
    pods: tuple[ObservedPod, ...]

    @property
    def ready_pods(self) -> tuple[ObservedPod, ...]:
        return tuple(pod for pod in self.pods if pod.facts.ready and not pod.facts.terminating)

    def pooled(self, pick: Callable[[PodMetrics], Reading[Histogram]]) -> Reading[Histogram]:
        """The sum over pods of one histogram. Pods whose reading is Unknown are left out; all Unknown is Unknown."""
        readings = [pick(pod.metrics) for pod in self.ready_pods]
        known = [reading for reading in readings if isinstance(reading, Known)]
        if not known:
            return _first_unknown(readings)
        whole = merged(reading.value for reading in known)
        if whole is None:
            return _NOT_READ
        return Known(whole, window=max(reading.window for reading in known), samples=whole.count)

    def summed(self, pick: Callable[[PodMetrics], Reading[float]]) -> Reading[float]:
        """The sum over pods of one number, for rates and counts; Unknown only when every pod is Unknown."""
        readings = [pick(pod.metrics) for pod in self.ready_pods]
        known = [reading for reading in readings if isinstance(reading, Known)]
        if not known:
            return _first_unknown(readings)
        return Known(
            sum(reading.value for reading in known),
            window=max(reading.window for reading in known),
            samples=sum(reading.samples for reading in known),
        )


def _first_unknown(readings: Iterable[Reading[Histogram]] | Iterable[Reading[float]]) -> Unknown:
    for reading in readings:
        if isinstance(reading, Unknown):
            return reading
    return Unknown(Why.NOT_SCRAPED, "No pod is ready.")


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the cluster has left, for choosing a strategy that fits."""

    gpus_free: Reading[int] = _NOT_READ
    gpus_total: Reading[int] = _NOT_READ


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything measured about one deployment over the window that ended at `at`.

    `metrics` says whether readings can be had at all: Known(True), or Unknown with the reason, in which case nothing
    may be decided from the readings.
    """

    namespace: str
    name: str
    at: float
    window: float
    engine: str
    engine_version: str
    revisions: tuple[RevisionView, ...]
    metrics: Reading[bool] = _NOT_READ
    cluster: ClusterFacts = field(default_factory=ClusterFacts)

    def revision(self, name: str) -> RevisionView:
        """The view of one revision; an empty view when it has no pods."""
        for view in self.revisions:
            if view.revision == name:
                return view
        return RevisionView(name, ())

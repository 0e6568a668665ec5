"""How one engine exports what Trimtab reads: which series, under which name in which version.

A role is what Trimtab asks for; the roles of an engine that has no such metric are simply absent, and the reading is
then `NotExported`. What the roles mean is said in `trimtab.model.snapshot.PodMetrics`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from trimtab.observe.promql import Matcher

Version: TypeAlias = tuple[int, int, int]


class HistogramRole(StrEnum):
    """Distributions over the window."""

    TTFT = "ttft"
    ITL = "itl"
    TPOT = "tpot"  # per request the mean time of a token: stands in for ITL under speculative decoding
    E2E = "e2e"
    QUEUE_TIME = "queue_time"
    PROMPT_TOKENS = "prompt_tokens"
    OUTPUT_TOKENS = "output_tokens"


class CounterRole(StrEnum):
    """Events over the window."""

    FINISHED = "finished"  # requests that the engine ended, however they ended
    FAILED = "failed"  # of those, the ones that ended in an error
    REFUSED = "refused"  # requests that were never let in, and are not among FINISHED
    SERVER_ERRORS = "server_errors"  # answers of the HTTP server with status 5xx
    PROMPT_TOKENS = "prompt_token_count"
    OUTPUT_TOKENS = "output_token_count"
    PREEMPTIONS = "preemptions"
    PREFIX_QUERIES = "prefix_queries"
    PREFIX_HITS = "prefix_hits"
    SPECULATIVE_STEPS = "speculative_steps"


class GaugeRole(StrEnum):
    """States during the window."""

    RUNNING = "running"
    WAITING = "waiting"
    KV_USAGE = "kv_usage"
    KV_CAPACITY = "kv_capacity_tokens"
    SETTINGS_ID = "settings_id"  # by which the writer of a settings file knows it; of those in force
    SETTINGS_REFUSED = "settings_refused"  # 1 while the settings file is not valid


@dataclass(frozen=True, slots=True)
class Name:
    """A metric's name in versions `since` <= version < `until`; None: no bound."""

    metric: str
    since: Version | None = None
    until: Version | None = None

    def holds_in(self, version: Version | None) -> bool:
        """Whether this version may export it; every name may be the right one when the version is not known."""
        if version is None:
            return True
        return (self.since is None or version >= self.since) and (self.until is None or version < self.until)


@dataclass(frozen=True, slots=True)
class CounterSpec:
    """Several metrics are added up. The first must be there for the reading to be known; the others may be absent."""

    names: tuple[Name, ...]
    matchers: tuple[Matcher, ...] = ()


@dataclass(frozen=True, slots=True)
class GaugeSpec:
    """`over` summarises the window. Series that differ in `copies` labels say the same thing (ranks of one model), so
    one of them counts; what is left is combined over the pod by `combine`.
    """

    names: tuple[Name, ...]
    over: str = "avg_over_time"
    combine: str = "sum"
    keep: tuple[str, ...] | None = None  # labels that tell real parts of a pod apart; None: all do
    divided_by: tuple[Name, ...] = ()
    matchers: tuple[Matcher, ...] = ()


@dataclass(frozen=True, slots=True)
class InfoSpec:
    """A constant gauge whose labels hold numbers: capacity = labels[whole], or the product of labels[factors]."""

    names: tuple[Name, ...]
    whole: str
    factors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine. `alive` is a gauge that exists from the first scrape on: its age is the age of all readings.

    `lazy`: series appear with their first event, so an absent one means "no traffic yet" rather than "no such metric".
    """

    name: str
    alive: tuple[Name, ...]
    histograms: Mapping[HistogramRole, tuple[Name, ...]]
    counters: Mapping[CounterRole, CounterSpec]
    gauges: Mapping[GaugeRole, GaugeSpec]
    capacity: InfoSpec | None = None
    lazy: bool = False
    oldest: Version | None = None
    prefixes: tuple[str, ...] = field(default=())  # by which an engine is known from its metrics


_DIGITS = re.compile(r"^v?(\d+)\.(\d+)(?:\.(\d+))?")


def parse_version(text: str) -> Version | None:
    """The release of a version such as "0.32.0", "v0.11.0rc1" or "0.32.0+cpu"; None for "latest" and the like."""
    found = _DIGITS.match(text.strip())
    if found is None:
        return None
    major, minor, patch = found.groups()
    return int(major), int(minor), int(patch or 0)


def metrics_in(names: tuple[Name, ...], version: Version | None) -> tuple[str, ...]:
    """The names that this version may use, the newest first. All of them when the version predates the table."""
    fitting = tuple(name.metric for name in names if name.holds_in(version))
    return fitting or tuple(name.metric for name in names)

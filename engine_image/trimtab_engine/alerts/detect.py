"""What is out of the ordinary in one reading of the server: thresholds, and changes of level."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from trimtab_engine.alerts.change import Level
from trimtab_engine.monitor.measured import Percentiles, Window

FEWEST = 5
# So much beyond its threshold it is critical.
CRITICAL = 2.0


class Severity(StrEnum):
    """How bad it is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """As in the configuration; None where there is none. Percent, seconds, tokens per second."""

    error_percent: float | None = None
    ttft_p95_seconds: float | None = None
    latency_p95_seconds: float | None = None
    kv_usage_percent: float | None = None
    least_tokens_per_second: float | None = None
    effect_percent: float | None = None
    changes: bool = True


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The sliding `window`, the `latest` one since the last reading, the KV cache's use (0 to 1), requests that are
    inside and that wait; the tuner's gain (None: unknown), whether it has changed limits, and a sentence for each GPU
    that is not well."""

    window: Window
    latest: Window
    kv_usage: float
    inside: int
    waiting: int
    effect: float | None = None
    tuned: bool = False
    targets_missed: bool = False
    gpus_failed: str = ""
    gpus_degraded: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing out of the ordinary; `name` tells it apart from others."""

    name: str
    severity: Severity
    message: str


def unwell_gpus(reading: Reading) -> Iterator[Finding]:
    """GPUs that have failed, and those that are degraded."""
    if reading.gpus_failed:
        yield Finding(name="GpuFailed", severity=Severity.CRITICAL, message=reading.gpus_failed)
    if reading.gpus_degraded:
        yield Finding(name="GpuDegraded", severity=Severity.WARNING, message=reading.gpus_degraded)


def over_thresholds(reading: Reading, limits: Thresholds) -> Iterator[Finding]:
    """Everything beyond its threshold."""
    window, share = reading.window, reading.window.error_share
    if limits.error_percent is not None and share is not None and window.ended >= FEWEST:
        yield from _over("HighErrorRate", 100 * share, limits.error_percent, "% of the requests fail")
    for name, found, most, what in (
        ("SlowFirstToken", window.ttft, limits.ttft_p95_seconds, "s is p95 of the time to the first token"),
        ("SlowRequests", window.latency, limits.latency_p95_seconds, "s is p95 of whole requests"),
    ):
        if most is not None and found is not None and found.count >= FEWEST:
            yield from _over(name, found.p95, most, what)
    if limits.kv_usage_percent is not None:
        full = 100 * reading.kv_usage
        if full > limits.kv_usage_percent:
            text = f"{full:.0f} % of the KV cache is in use, and {limits.kv_usage_percent:g} % may be."
            yield Finding(name="CacheFull", severity=Severity.WARNING, message=text)
    least, speed = limits.least_tokens_per_second, window.tokens_per_second
    if least is not None and reading.inside and speed < least:
        text = (
            f"{speed:.4g} tokens per second are made while {reading.inside} requests are there; {least:g} are wanted."
        )
        severe = Severity.CRITICAL if speed * CRITICAL < least else Severity.WARNING
        yield Finding(name="LowThroughput", severity=severe, message=text)
    if limits.effect_percent is not None and reading.tuned and reading.targets_missed and reading.effect is not None:
        gain = 100 * reading.effect
        if gain < limits.effect_percent:
            text = (
                f"The tuner has gained {gain:.0f} % while targets are missed; {limits.effect_percent:g} % are wanted."
            )
            yield Finding(name="TunerWithoutEffect", severity=Severity.WARNING, message=text)


def _over(name: str, value: float, most: float, what: str) -> Iterator[Finding]:
    if value > most:
        severity = Severity.CRITICAL if value > CRITICAL * most else Severity.WARNING
        yield Finding(name=name, severity=severity, message=f"{value:.3g} {what}; the threshold is {most:g}.")


@dataclass
class Levels:
    """The levels of the series that are watched for changes."""

    ttft: Level = field(default_factory=lambda: Level(upwards=True))
    itl: Level = field(default_factory=lambda: Level(upwards=True))
    throughput: Level = field(default_factory=lambda: Level(upwards=False))

    def read(self, reading: Reading) -> Iterator[Finding]:
        """Takes the latest window in, and tells what has changed."""
        latest = reading.latest
        self.ttft = _next(self.ttft, _median(latest.ttft))
        self.itl = _next(self.itl, _median(latest.itl))
        # Only a full engine shows what it can do.
        self.throughput = _next(self.throughput, latest.tokens_per_second if reading.waiting else None)
        for name, level, what in (
            ("FirstTokenSlower", self.ttft, "The time to the first token has risen above"),
            ("TokensSlower", self.itl, "The time between tokens has risen above"),
            ("ThroughputFell", self.throughput, "Tokens per second of the full engine have fallen below"),
        ):
            if level.changed and level.center is not None:
                text = f"{what} its usual level of {math.exp(level.center):.3g}."
                yield Finding(name=name, severity=Severity.WARNING, message=text)


def _median(found: Percentiles | None) -> float | None:
    return found.p50 if found is not None and found.count >= FEWEST else None


def _next(level: Level, value: float | None) -> Level:
    return level.read(math.log(value)) if value is not None and value > 0 else level

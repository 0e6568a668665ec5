"""The operator's settings: read once, from the environment, here and nowhere else."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(ValueError):
    """A setting is missing or unusable; the message names the variable and what it takes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an administrator can set. Durations in seconds."""

    prometheus_url: str
    prometheus_timeout: float = 10.0
    scrape_interval: float = 15.0  # of the serving pods, at the longest: decides when a sample is stale
    namespaces: tuple[str, ...] = ()  # empty: all
    lease_namespace: str = "default"
    lease_name: str = "trimtab"
    identity: str = "trimtab"
    log_level: str = "INFO"
    max_mode: str = "Apply"  # the kill switch: Observe stops every change
    metrics_port: int = 9090
    health_port: int = 8080
    listen_host: str = "0.0.0.0"
    workers: int = 4
    otlp_endpoint: str = ""  # where traces go; empty: nowhere
    resync: float = 300.0


MODES = ("Observe", "Recommend", "Approve", "Apply")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises SettingsError, which names the variable."""
    url = environment.get("TRIMTAB_PROMETHEUS_URL", "")
    if not url.startswith(("http://", "https://")):
        raise SettingsError(
            "TRIMTAB_PROMETHEUS_URL must be the http(s) address of Prometheus, e.g. http://prometheus:9090"
        )
    max_mode = environment.get("TRIMTAB_MAX_MODE", "Apply") or "Apply"
    if max_mode not in MODES:
        raise SettingsError(f"TRIMTAB_MAX_MODE is {max_mode!r}; it takes one of {', '.join(MODES)}")
    log_level = (environment.get("TRIMTAB_LOG_LEVEL") or "INFO").upper()
    if log_level not in LOG_LEVELS:
        raise SettingsError(f"TRIMTAB_LOG_LEVEL is {log_level!r}; it takes one of {', '.join(LOG_LEVELS)}")
    namespaces = environment.get("TRIMTAB_NAMESPACES", "")
    return Settings(
        prometheus_url=url.rstrip("/"),
        prometheus_timeout=_number(environment, "TRIMTAB_PROMETHEUS_TIMEOUT_SECONDS", 10.0),
        scrape_interval=_number(environment, "TRIMTAB_SCRAPE_INTERVAL_SECONDS", 15.0),
        namespaces=tuple(sorted(name.strip() for name in namespaces.split(",") if name.strip())),
        lease_namespace=environment.get("TRIMTAB_LEASE_NAMESPACE") or environment.get("POD_NAMESPACE") or "default",
        lease_name=environment.get("TRIMTAB_LEASE_NAME") or "trimtab",
        identity=environment.get("POD_NAME") or environment.get("HOSTNAME") or "trimtab",
        log_level=log_level,
        max_mode=max_mode,
        metrics_port=_whole(environment, "TRIMTAB_METRICS_PORT", 9090, highest=65535),
        health_port=_whole(environment, "TRIMTAB_HEALTH_PORT", 8080, highest=65535),
        listen_host=environment.get("TRIMTAB_LISTEN_HOST") or "0.0.0.0",
        otlp_endpoint=environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        workers=_whole(environment, "TRIMTAB_WORKERS", 4, highest=64),
        resync=_number(environment, "TRIMTAB_RESYNC_SECONDS", 300.0),
    )


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}; it takes a number") from None
    if not 0 < value < math.inf:
        raise SettingsError(f"{name} is {text}; it must be above 0 and not endless")
    return value


def _whole(environment: Mapping[str, str], name: str, default: int, *, highest: int) -> int:
    value = _number(environment, name, default)
    if value != int(value) or value > highest:
        raise SettingsError(f"{name} is {environment[name]}; it takes a whole number from 1 to {highest}")
    return int(value)

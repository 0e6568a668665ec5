"""The fields of what watches the server and tunes it. Each part can be left out; the server then serves without it."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from trimtab_engine.config.part import Part


def _http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address that begins with http:// or https:// and names a host")
    return url


Url = Annotated[str, AfterValidator(_http)]


class MonitorConfig(Part):
    """What is measured of requests."""

    enabled: bool = Field(default=True, description="measure requests: metrics, percentiles, load, report")
    window_seconds: int = Field(default=60, ge=10, le=300, description="the sliding window of the percentiles")
    history_minutes: int = Field(default=60, ge=1, le=1440, description="minutes that the report looks back")


class TracingConfig(Part):
    """Traces of requests by OpenTelemetry."""

    endpoint: Url | None = Field(
        default=None, description="where spans go by OTLP over HTTP, such as http://collector:4318/v1/traces; null: off"
    )
    service_name: str = Field(default="trimtab-engine", min_length=1, description="name of the service in traces")
    sample_percent: float = Field(
        default=100, ge=0, le=100, description="share of the requests without a parent that are traced"
    )
    queue_spans: int = Field(
        default=2048, ge=16, le=1 << 20, description="spans that wait for the collector; further ones are dropped"
    )
    timeout_seconds: float = Field(default=5, ge=0.1, le=60, description="the longest that one export may take")


class AlertsConfig(Part):
    """What is out of the ordinary, and whom it is told. null switches a threshold off."""

    enabled: bool = Field(default=False, description="look for what is out of the ordinary and tell it")
    error_percent: float | None = Field(default=5, gt=0, le=100, description="share of failed requests")
    ttft_p95_seconds: float | None = Field(default=0.5, gt=0, le=3600, description="p95 of the time to the first token")
    latency_p95_seconds: float | None = Field(default=None, gt=0, le=86_400, description="p95 of whole requests")
    kv_usage_percent: float | None = Field(default=95, gt=0, le=100, description="share of the KV cache in use")
    least_tokens_per_second: float | None = Field(
        default=None, gt=0, description="output tokens per second, below which it is told while requests are there"
    )
    effect_percent: float | None = Field(
        default=10, ge=0, le=1000, description="gain of the tuner, below which it is told while targets are missed"
    )
    gpus: bool = Field(default=True, description="tell of GPUs that are degraded or failed")
    changes: bool = Field(default=True, description="tell of changes in level of latency and throughput")
    interval_seconds: float = Field(default=5, ge=0.5, le=300, description="time between two looks")
    pending_seconds: float = Field(default=10, ge=0, le=3600, description="how long it must last before it is told")
    resolve_seconds: float = Field(default=30, ge=0, le=3600, description="how long it must be gone to be resolved")
    repeat_seconds: float = Field(default=300, ge=1, le=86_400, description="time until it is told again")
    messages_per_minute: float = Field(default=6, gt=0, le=600, description="messages to a receiver, at most")
    webhook: Url | None = Field(default=None, description="where alerts are posted as JSON")
    alertmanager: Url | None = Field(default=None, description="base address of an Alertmanager (API v2)")
    timeout_seconds: float = Field(default=5, ge=0.1, le=60, description="the longest that one delivery may take")


class TunerConfig(Part):
    """Limits that follow what is measured. Off while a settings file sets them."""

    enabled: bool = Field(default=False, description="change limits by what is measured, towards the targets")
    ttft_p95_seconds: float | None = Field(default=None, gt=0, le=3600, description="target: p95 until the first token")
    itl_p95_seconds: float | None = Field(default=None, gt=0, le=600, description="target: p95 between two tokens")
    interval_seconds: float = Field(default=5, ge=1, le=600, description="the shortest time between two decisions")
    fewest_requests: int = Field(default=8, ge=1, le=10_000, description="first tokens that a decision needs")
    fewest_running: int = Field(default=1, ge=1, le=65_536, description="the lowest limit of running requests it sets")
    admission: bool = Field(default=True, description="whether it may refuse requests whose wait would be too long")

    @model_validator(mode="after")
    def _has_a_target(self) -> Self:
        if self.enabled and self.ttft_p95_seconds is None and self.itl_p95_seconds is None:
            raise ValueError("enabled needs a target: ttft_p95_seconds or itl_p95_seconds")
        return self

"""The fields of the configuration. What is not given has a default, except for the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from trimtab_engine.config.engines import GUESSING, EnginesConfig
from trimtab_engine.config.gpus import GpusConfig
from trimtab_engine.config.observing import AlertsConfig, MonitorConfig, TracingConfig, TunerConfig
from trimtab_engine.config.part import Part
from trimtab_engine.config.reuse import KvReuseConfig
from trimtab_engine.config.semantic_cache import SemanticCacheConfig
from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.limits.classes import MOST_CLASSES, NAME


class ServerConfig(Part):
    """The HTTP server and what it does for every engine."""

    host: str = Field(default="0.0.0.0", min_length=1, description="address that the server listens on")
    port: int = Field(default=8000, ge=1, le=65535, description="port that the server listens on")
    drain_seconds: int = Field(
        default=60,
        ge=0,
        le=86_400,
        description="how long accepted requests may take after SIGTERM, before the process ends",
    )
    request_timeout_seconds: float | None = Field(
        default=None, gt=0, le=86_400, description="the longest that a request may take; null for no bound"
    )
    keep_alive_seconds: int = Field(
        default=75,
        ge=1,
        le=3600,
        description="how long an idle connection stays open; longer than what a proxy before the server waits",
    )
    largest_body_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1024, le=1 << 32, description="the longest body of a request; longer ones get 413"
    )
    token_file: Path | None = Field(
        default=None, description="file with the token of the endpoints that change something; they are off without it"
    )


class LimitsConfig(Part):
    """The limits at the start; each may change while the server runs. null: what the engine was started for."""

    max_running_requests: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="requests that run at once"
    )
    max_tokens_per_step: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="tokens, of prompts and of decoding, that one step of the engine computes"
    )
    long_prompt_tokens_per_step: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="tokens of one long prompt in a step while other requests are there; 0 for no bound"
    )
    kv_headroom_percent: Annotated[int, Field(ge=0, le=90)] | None = Field(
        default=None, description="share of the KV cache that stays free when a waiting request is taken up"
    )
    max_queued_requests: int | None = Field(
        default=None, ge=0, le=1_000_000, description="requests that may wait; further ones get 429. null for no bound"
    )
    max_wait_seconds: float | None = Field(
        default=None, ge=0.1, le=86_400, description="expected wait above which a request gets 429. null for no bound"
    )


class AdaptiveConfig(Part):
    """The size of the batch in the engines deepspeed, onnx and pytorch; vLLM batches by itself."""

    target_token_seconds: Annotated[float, Field(ge=0.001, le=600)] | None = Field(
        default=None,
        description="9 of 10 times between two tokens shall be shorter; fewer run at once where not. null: off",
    )
    fewest_requests: int = Field(default=1, ge=1, le=1024, description="requests that run at once in any case")
    longest_hold_seconds: float = Field(
        default=1, ge=0, le=86_400, description="how long a request waits because of the target, at most"
    )


class ClassConfig(Part):
    """How requests of one class are treated."""

    priority: int = Field(default=0, ge=-1000, le=1000, description="the lower runs first")
    queue_percent: int = Field(
        default=100, ge=0, le=100, description="share of the queue from which on the class is refused"
    )


ClassName = Annotated[str, Field(pattern=NAME)]


class Config(Part):
    """All of it."""

    model: str = Field(min_length=1, description="folder of the model, or its name on a hub")
    served_model_name: str | None = Field(
        default=None, min_length=1, description="name that clients use; default: model"
    )
    settings_file: Path | None = Field(default=None, description="file whose limits are taken up while the server runs")
    settings_interval_seconds: float = Field(
        default=0.25, ge=0.05, le=60, description="time between two looks at the settings file"
    )
    server: ServerConfig = ServerConfig()
    engines: EnginesConfig = EnginesConfig()
    gpus: GpusConfig = GpusConfig()
    speculation: SpeculationConfig = SpeculationConfig()
    kv_reuse: KvReuseConfig = KvReuseConfig()
    limits: LimitsConfig = LimitsConfig()
    batching: AdaptiveConfig = AdaptiveConfig()
    classes: dict[ClassName, ClassConfig] = Field(
        default={},
        max_length=MOST_CLASSES,
        description="classes of requests at the start, by name: priority (the lower runs first) and queue_percent",
    )
    monitor: MonitorConfig = MonitorConfig()
    tracing: TracingConfig = TracingConfig()
    alerts: AlertsConfig = AlertsConfig()
    tuner: TunerConfig = TunerConfig()
    semantic_cache: SemanticCacheConfig = SemanticCacheConfig()

    @field_validator("speculation")
    @classmethod
    def _said_once(cls, speculation: SpeculationConfig, info: ValidationInfo) -> SpeculationConfig:
        engines = info.data.get("engines")  # None where they have problems of their own
        raw = [argument for argument in (engines.vllm.arguments if engines else ()) if argument.startswith(GUESSING)]
        if speculation.method != "off" and raw:
            raise ValueError(f"engines.vllm.arguments has {raw[0]}, too; leave that out, or set method to off")
        return speculation

    @field_validator("alerts", "tuner")
    @classmethod
    def _is_measured(cls, part: AlertsConfig | TunerConfig, info: ValidationInfo) -> AlertsConfig | TunerConfig:
        monitor = info.data.get("monitor")  # None where it has problems of its own
        if part.enabled and monitor is not None and not monitor.enabled:
            raise ValueError("enabled needs monitor.enabled")
        return part

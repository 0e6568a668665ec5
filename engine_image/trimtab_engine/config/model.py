"""The fields of the configuration. What is not given has a default, except for the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trimtab_engine.config.gpus import GpusConfig
from trimtab_engine.config.observing import AlertsConfig, MonitorConfig, TracingConfig, TunerConfig
from trimtab_engine.config.part import Part
from trimtab_engine.config.reuse import KvReuseConfig
from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.limits.classes import MOST_CLASSES, NAME

# Flags of `vllm serve` that fields of this configuration set.
RESERVED = {
    "--host": "server.host",
    "--port": "server.port",
    "--served-model-name": "served_model_name",
    "--shutdown-timeout": "server.drain_seconds",
    "--scheduler-cls": "limits",
    "--model": "model",
}
# vLLM's parser takes beginnings of names that say which one is meant; shorter ones mean several.
_SHORTEST = len("--hos")
# Those of speculative decoding, which stand for all of it.
GUESSING = ("--spec", "-sc")


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


class VllmConfig(Part):
    """vLLM."""

    arguments: tuple[str, ...] = Field(
        default=(), description="further arguments of `vllm serve`, such as --max-num-seqs"
    )

    @field_validator("arguments")
    @classmethod
    def _no_field_twice(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        for argument in arguments:
            # vLLM's parser takes `_` for `-` in the names of flags.
            flag = argument.partition("=")[0].replace("_", "-")
            for reserved, field in RESERVED.items():
                if flag == reserved or (len(flag) >= _SHORTEST and reserved.startswith(flag)):
                    raise ValueError(f"{flag} is set by the field {field}")
        return arguments


class BatchingConfig(Part):
    """How transformers' continuous batching is sized."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="number format of the weights; auto: as in the model"
    )
    running_requests: int = Field(default=16, ge=1, le=1024, description="requests that run at once, at most")
    tokens_per_step: int = Field(default=512, ge=16, le=1 << 20, description="tokens that one step computes, at most")
    kv_cache_tokens: int = Field(default=16_384, ge=256, le=1 << 26, description="tokens that the KV cache holds")
    page_tokens: int = Field(default=32, ge=16, le=1024, description="tokens in one page of the KV cache")
    attention: Literal["auto", "flash", "sdpa", "eager"] = Field(
        default="auto",
        description="kernel of attention; auto: the fastest that works. One that does not is passed over",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tokens_per_step < self.running_requests:
            raise ValueError("tokens_per_step must be at least running_requests")
        return self


class PytorchConfig(BatchingConfig):
    """PyTorch by transformers' continuous batching."""


class DeepspeedConfig(BatchingConfig):
    """The same, over a model that DeepSpeed has cut into one part per process."""

    tensor_parallel: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="processes that the model is cut over; on GPUs, one GPU each. null: gpus.tensor_parallel",
    )


class OnnxConfig(Part):
    """ONNX Runtime."""

    precision: Literal["fp32", "int8", "int4"] = Field(
        default="fp32", description="number format of the converted weights; int8 and int4 compute with less memory"
    )
    running_requests: int = Field(default=8, ge=1, le=1024, description="requests that run at once, at most")
    tokens_per_step: int = Field(default=256, ge=16, le=1 << 20, description="tokens that one step computes, at most")
    context_tokens: int = Field(
        default=2048, ge=64, le=1 << 22, description="tokens of the longest request; the model's own bound holds, too"
    )
    threads: int = Field(default=0, ge=0, le=1024, description="threads that compute; 0: OMP_NUM_THREADS, or all cores")
    cache_folder: Path | None = Field(
        default=None, description="where converted models are kept; default: trimtab-engine in the user's cache"
    )
    largest_difference: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="nats by which log-probabilities may differ from PyTorch's, on average; default: by precision",
    )
    largest_perplexity_rise_percent: float = Field(
        default=2.0, ge=0, le=1000, description="by how much perplexity may rise over PyTorch's"
    )
    reuse_megabytes: int = Field(
        default=256,
        ge=0,
        le=1 << 24,
        description="memory for keys and values of earlier texts, with which later ones may begin; 0: none",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tokens_per_step < self.running_requests:
            raise ValueError("tokens_per_step must be at least running_requests")
        return self


class EnginesConfig(Part):
    """The engines."""

    preference: tuple[Literal["vllm", "deepspeed", "onnx", "pytorch"], ...] = Field(
        default=("vllm", "deepspeed", "onnx", "pytorch"),
        min_length=1,
        description="engines in the order in which they are tried",
    )
    start_seconds: int = Field(
        default=1800,
        ge=1,
        le=86_400,
        description="how long an engine may take until it serves, before the next is tried",
    )
    vllm: VllmConfig = VllmConfig()
    deepspeed: DeepspeedConfig = DeepspeedConfig()
    onnx: OnnxConfig = OnnxConfig()
    pytorch: PytorchConfig = PytorchConfig()

    @field_validator("preference")
    @classmethod
    def _no_engine_twice(cls, preference: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(preference)) < len(preference):
            raise ValueError("names an engine twice")
        return preference


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


class SemanticCacheConfig(Part):
    """Answers to questions that were asked before in other words."""

    embedding_model: Path | None = Field(
        default=None,
        description="folder of a sentence-embedding model (model.onnx, tokenizer.json); needed where it is enabled",
    )
    enabled: bool = Field(default=False, description="whether such questions are answered from the cache")
    threshold: float = Field(
        default=0.95, ge=0.5, le=1, description="cosine of two questions from which on they are taken for the same"
    )
    ttl_seconds: float = Field(default=3600, ge=1, le=31_536_000, description="how long an answer is kept")
    largest_entries: int = Field(default=10_000, ge=1, le=1_000_000, description="answers that are kept, at most")
    largest_bytes: int = Field(
        default=256 * 1024 * 1024, ge=1024, le=1 << 40, description="bytes of the answers that are kept, at most"
    )
    largest_answer_bytes: int = Field(default=256 * 1024, ge=256, le=1 << 30, description="longer answers are not kept")
    longest_text_characters: int = Field(
        default=512, ge=1, le=4096, description="longer questions are not compared: a word weighs too little in them"
    )
    largest_temperature: float = Field(
        default=0.0, ge=0, le=2, description="requests with a higher temperature are not answered from the cache"
    )
    tenant_headers: tuple[str, ...] = Field(
        default=(), description="headers that tell tenants apart, besides Authorization, which always does"
    )
    require_tenant: bool = Field(
        default=False, description="whether requests without any of these headers go past the cache"
    )
    redis_url: str | None = Field(
        default=None,
        pattern=r"^(rediss?|unix)://",
        description="a Redis or Valkey that several servers share, such as redis://cache:6379/0; null: in memory",
    )
    redis_prefix: str = Field(
        default="trimtab", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="what the keys in Redis begin with"
    )
    redis_seconds: float = Field(default=0.1, gt=0, le=10, description="how long Redis may take to answer")

    @field_validator("enabled")
    @classmethod
    def _has_a_model(cls, enabled: bool, before: ValidationInfo) -> bool:
        if enabled and before.data.get("embedding_model") is None:
            raise ValueError("embedding_model is needed where it is enabled")
        return enabled


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

"""The engines: which are tried in which order, and what each is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from trimtab_engine.config.part import Part

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

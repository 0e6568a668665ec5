"""What the semantic cache answers, and where it keeps the answers."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from trimtab_engine.config.part import Part


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

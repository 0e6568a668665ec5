"""What our own engines may use again of earlier requests."""

from __future__ import annotations

from pydantic import Field

from trimtab_engine.config.part import Part


class KvReuseConfig(Part):
    """Keys and values that were computed for the beginning of an earlier text. vLLM keeps them by its own arguments."""

    enabled: bool = Field(default=True, description="whether a prompt that begins as an earlier text goes on from it")
    salt_vllm: bool = Field(
        default=False, description="whether vLLM's prefix cache is apart by tenant and conversation, too (cache_salt)"
    )
    tenant_headers: tuple[str, ...] = Field(
        default=(), description="headers that tell tenants apart, besides Authorization, which always does"
    )
    idle_seconds: float = Field(
        default=600, ge=1, le=604_800, description="a conversation without a request for so long is taken for ended"
    )

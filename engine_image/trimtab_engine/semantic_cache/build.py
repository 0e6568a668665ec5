"""Makes the cache that the configuration asks for."""

from __future__ import annotations

from pathlib import Path

from trimtab_engine.config.semantic_cache import SemanticCacheConfig
from trimtab_engine.semantic_cache.cache import SemanticCache
from trimtab_engine.semantic_cache.question import Rules
from trimtab_engine.semantic_cache.shelves import Shelves
from trimtab_engine.semantic_cache.store import MemoryStore, Store


def build(config: SemanticCacheConfig) -> SemanticCache:
    """May raise ImportError where a library is missing, and what ONNX Runtime raises where it cannot read the model."""
    import faiss  # noqa: F401  # an index is made much later; whether it can be is to be known now

    from trimtab_engine.semantic_cache.embed import OnnxEmbedder

    embedder = OnnxEmbedder(Path(config.embedding_model or ""))
    shelves = Shelves(width=embedder.width, largest_entries=config.largest_entries, largest_bytes=config.largest_bytes)
    return SemanticCache(
        embedder=embedder,
        shelves=shelves,
        store=_store(config, embedder.space, embedder.width),
        threshold=config.threshold,
        ttl_seconds=config.ttl_seconds,
        largest_answer_bytes=config.largest_answer_bytes,
    )


def rules(config: SemanticCacheConfig, scope: str) -> Rules:
    """`scope` names the model that answers."""
    return Rules(
        scope=scope,
        largest_temperature=config.largest_temperature,
        longest_text_characters=config.longest_text_characters,
        require_tenant=config.require_tenant,
    )


def _store(config: SemanticCacheConfig, space: str, width: int) -> Store:
    """Vectors of another model lie under another prefix."""
    if config.redis_url is None:
        return MemoryStore()
    from trimtab_engine.semantic_cache.redis import RedisStore

    return RedisStore(
        config.redis_url,
        prefix=f"{config.redis_prefix}:{space}",
        width=width,
        largest_entries=config.largest_entries,
        seconds=config.redis_seconds,
    )

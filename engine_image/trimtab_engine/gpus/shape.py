"""What of a model's shape says over how many GPUs it can be spread. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_HEADS = ("num_attention_heads", "n_head", "num_heads")
_KV_HEADS = ("num_key_value_heads", "multi_query_group_num", "num_kv_heads")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")


class Heads(StrEnum):
    """How an engine shares attention out over the parts of a layer.

    vLLM (0.32) shares out the heads of queries, and gives a key and value head to several parts where there are fewer
    of them (`vllm/config/model.py`, `vllm/model_executor/models/llama.py`). AutoTP needs one for each part.
    """

    SHARED = "shared"
    OWN = "own"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Heads of queries, heads of keys and values (None: compressed, as in MLA), layers, and bytes of all weights
    (None: not known)."""

    heads: int
    kv_heads: int | None
    layers: int
    weight_bytes: int | None = None

    def problem(self, tensor: int, how: Heads) -> str:
        """Why a layer cannot be cut into `tensor` parts; empty where it can."""
        if self.heads % tensor:
            return f"{tensor} does not divide the model's {self.heads} attention heads"
        shared = how is Heads.SHARED and self.kv_heads is not None and tensor % self.kv_heads == 0
        if self.kv_heads is not None and self.kv_heads % tensor and not shared:
            return f"the model's {self.kv_heads} key and value heads cannot be shared out over {tensor} GPUs"
        return ""

    def possible(self, how: Heads, most: int) -> tuple[int, ...]:
        """Into how many parts a layer can be cut, up to `most`."""
        return tuple(parts for parts in range(1, most + 1) if not self.problem(parts, how))


def shape_from(config: Mapping[str, Any], weight_bytes: int | None = None) -> Shape | None:
    """The shape in a model's `config.json`; None where it does not say so much."""
    text = config.get("text_config")
    inner: Mapping[str, Any] = text if isinstance(text, Mapping) else config
    heads, layers = _first(inner, _HEADS), _first(inner, _LAYERS)
    if heads is None or layers is None:
        return None
    compressed = isinstance(inner.get("kv_lora_rank"), int)
    kv_heads = None if compressed else _first(inner, _KV_HEADS) or heads
    return Shape(heads=heads, kv_heads=kv_heads, layers=layers, weight_bytes=weight_bytes or None)


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None

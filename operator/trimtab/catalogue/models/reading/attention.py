"""The attention of each layer that a config.json describes."""

from __future__ import annotations

from trimtab.catalogue.models.reading.families import (
    BIASED,
    GATED_ATTENTION,
    KNOWN,
    WINDOW_EVERYWHERE,
    WINDOW_FROM,
)
from trimtab.catalogue.models.reading.fields import Fields
from trimtab.catalogue.models.shape import Attention, GroupedQuery, Latent, Linear

_HEADS = ("num_attention_heads", "n_head", "n_heads")
_MOST_HEADS = 1 << 12


def attentions(fields: Fields, kind: str, hidden: int, layers: int, notes: list[str]) -> tuple[Attention, ...]:
    """One per layer. `kind` is the model_type; what had to be assumed is added to `notes`."""
    if fields.get("kv_lora_rank") is not None:
        return (_latent(fields),) * layers
    full = _grouped_query(fields, kind, hidden)
    return tuple(_of_type(fields, kind, full, name) for name in _layer_types(fields, kind, layers, notes))


def _latent(fields: Fields) -> Latent:
    return Latent(
        heads=fields.number(*_HEADS, most=_MOST_HEADS),
        q_rank=fields.optional("q_lora_rank") or 0,
        kv_rank=fields.number("kv_lora_rank"),
        nope_dim=fields.number("qk_nope_head_dim"),
        rope_dim=fields.number("qk_rope_head_dim"),
        v_dim=fields.number("v_head_dim"),
        index_heads=fields.optional("index_n_heads") or 0,
        index_dim=fields.optional("index_head_dim") or 0,
        sparse_topk=fields.optional("index_topk") or 0,
    )


def _grouped_query(fields: Fields, kind: str, hidden: int) -> GroupedQuery:
    heads = fields.number(*_HEADS, most=_MOST_HEADS)
    kv_heads = _kv_heads(fields, heads)
    if heads % kv_heads:
        raise fields.error("num_key_value_heads", f"is {kv_heads} and does not divide the {heads} query heads")
    head_dim = fields.optional("head_dim", least=1, most=1 << 14)
    if head_dim is None:
        if hidden % heads:
            raise fields.error(
                "num_attention_heads", f"is {heads}, does not divide hidden_size {hidden}, and no head_dim is given"
            )
        head_dim = hidden // heads
    return GroupedQuery(
        q_heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        bias=kind in BIASED or fields.flag("attention_bias", "qkv_bias"),
        gated=kind in GATED_ATTENTION or fields.flag("attn_output_gate"),
    )


def _kv_heads(fields: Fields, heads: int) -> int:
    """Multi-head attention where the file says nothing else."""
    per_layer = fields.get("num_key_value_heads_per_layer")
    if isinstance(per_layer, list) and (counts := [count for count in per_layer if isinstance(count, int)]):
        return max(1, *counts)  # engines load such models with as many in every layer
    if fields.flag("multi_query") and not fields.flag("new_decoder_architecture"):
        return 1
    return fields.optional("num_key_value_heads", "num_kv_heads", least=1, most=_MOST_HEADS) or heads


def _layer_types(fields: Fields, kind: str, layers: int, notes: list[str]) -> tuple[str, ...]:
    """One word per layer: as the file lists them, or as its type alternates them."""
    if (listed := fields.listed("layer_types", layers)) is not None:
        return tuple(str(word) for word in listed)
    if (codes := fields.listed("attn_type_list", layers)) is not None:
        return tuple("full_attention" if code == 1 else "linear_attention" for code in codes)
    if (interval := fields.optional("full_attention_interval", least=1)) is not None:
        return _alternating(layers, interval, "linear_attention")
    if kind == "llama4_text":
        return _llama_4(fields, layers)
    if fields.optional("sliding_window") is None:
        return ("full_attention",) * layers
    return _windowed(fields, kind, layers, notes)


def _windowed(fields: Fields, kind: str, layers: int, notes: list[str]) -> tuple[str, ...]:
    if (pattern := fields.optional("sliding_window_pattern", least=1)) is not None:
        return _alternating(layers, pattern, "sliding_attention")
    if kind in WINDOW_EVERYWHERE:
        return ("sliding_attention",) * layers
    if kind in WINDOW_FROM:
        first = fields.optional("max_window_layers") or 0
        used = fields.flag("use_sliding_window")
        return tuple("sliding_attention" if used and layer >= first else "full_attention" for layer in range(layers))
    if kind not in KNOWN:
        notes.append(
            f"{fields.name('sliding_window')} does not say in which layers it holds; all are taken to attend to the "
            "whole context, which needs the larger cache."
        )
    return ("full_attention",) * layers


def _alternating(layers: int, interval: int, others: str) -> tuple[str, ...]:
    return tuple("full_attention" if (layer + 1) % interval == 0 else others for layer in range(layers))


def _llama_4(fields: Fields, layers: int) -> tuple[str, ...]:
    """Layers with rotary positions attend within chunks, those without to the whole context."""
    rotary = fields.listed("no_rope_layers", layers)
    if rotary is not None:
        return tuple("chunked_attention" if flag else "full_attention" for flag in rotary)
    return _alternating(layers, fields.number("no_rope_layer_interval"), "chunked_attention")


def _of_type(fields: Fields, kind: str, full: GroupedQuery, word: str) -> Attention:
    match word:
        case "full_attention" | "attention":
            return full
        case "sliding_attention":
            return _with_window(full, fields.number("sliding_window"))
        case "chunked_attention":
            return _with_window(full, fields.number("attention_chunk_size"))
        case "linear_attention":
            return _linear(fields, kind, full)
    raise fields.error("layer_types", f"has a layer of type {word!r}, which the planner does not know")


def _with_window(full: GroupedQuery, window: int) -> GroupedQuery:
    return GroupedQuery(
        q_heads=full.q_heads,
        kv_heads=full.kv_heads,
        head_dim=full.head_dim,
        window=window,
        bias=full.bias,
        gated=full.gated,
    )


def _linear(fields: Fields, kind: str, full: GroupedQuery) -> Linear:
    if kind.startswith("minimax"):  # Lightning Attention: heads as in the full layers, no convolution
        heads, dim = full.q_heads, full.head_dim
        return Linear(k_heads=heads, v_heads=heads, k_dim=dim, v_dim=dim, conv=0)
    k_heads, v_heads = fields.number("linear_num_key_heads"), fields.number("linear_num_value_heads")
    if v_heads % k_heads:
        raise fields.error("linear_num_value_heads", f"is {v_heads} and no multiple of the {k_heads} key heads")
    return Linear(
        k_heads=k_heads,
        v_heads=v_heads,
        k_dim=fields.number("linear_key_head_dim"),
        v_dim=fields.number("linear_value_head_dim"),
        conv=fields.number("linear_conv_kernel_dim"),
        float32_state=fields.get("mamba_ssm_dtype") == "float32",
    )

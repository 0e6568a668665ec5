"""The feed-forward of each layer that a config.json describes."""

from __future__ import annotations

from trimtab.catalogue.models.reading.families import FOURFOLD, UNGATED
from trimtab.catalogue.models.reading.fields import Fields
from trimtab.catalogue.models.shape import Dense, Experts, FeedForward

_WIDTH = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
_TOPK = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk")


def feed_forwards(fields: Fields, kind: str, hidden: int, layers: int) -> tuple[FeedForward, ...]:
    """One per layer."""
    count = fields.optional(*_EXPERTS, most=1 << 16) or 0
    if count <= 1:
        return (_dense(fields, kind, hidden),) * layers
    experts = _experts(fields, kind, count)
    sparse = _sparse_layers(fields, kind, layers)
    if len(sparse) == layers:
        return (experts,) * layers
    dense = _dense(fields, kind, hidden)
    return tuple(experts if layer in sparse else dense for layer in range(layers))


def _dense(fields: Fields, kind: str, hidden: int) -> Dense:
    keys = ("intermediate_size_mlp", *_WIDTH) if kind == "llama4_text" else _WIDTH
    width = fields.optional(*keys, least=1, most=1 << 24)
    if width is None and kind in FOURFOLD:
        width = 4 * hidden
    if width is None:
        width = fields.number(*keys)
    return Dense(intermediate=width, gated=kind not in UNGATED)


def _experts(fields: Fields, kind: str, count: int) -> Experts:
    topk = fields.number(*_TOPK)
    if topk > count:
        raise fields.error("num_experts_per_tok", f"is {topk} and there are {count} experts")
    width = fields.number("moe_intermediate_size", *_WIDTH, most=1 << 24)
    return Experts(experts=count, topk=topk, intermediate=width, shared=_shared(fields, kind, width))


def _shared(fields: Fields, kind: str, width: int) -> int:
    """The shared experts' width in sum: given as such, or as a number of experts of the routed ones' width."""
    if kind == "llama4_text":
        return width
    given = fields.optional("shared_expert_intermediate_size", "shared_intermediate_size")
    if given is not None:
        return given
    return (fields.optional("n_shared_experts", "num_shared_experts") or 0) * width


def _sparse_layers(fields: Fields, kind: str, layers: int) -> frozenset[int]:
    """The layers with experts; the others are dense."""
    every = range(layers)
    if (listed := fields.listed("mlp_layer_types", layers)) is not None:
        return frozenset(layer for layer, word in enumerate(listed) if word != "dense")
    if kind == "llama4_text":
        chosen = fields.chosen("moe_layers")
        step = fields.number("interleave_moe_layer_step")
        return chosen or frozenset(layer for layer in every if (layer + 1) % step == 0)
    first = fields.optional("first_k_dense_replace") or 0
    step = fields.optional("decoder_sparse_step", "moe_layer_freq", least=1) or 1
    dense = fields.chosen("mlp_only_layers") or frozenset()
    if fields.get("decoder_sparse_step") is not None:  # counts layers from one, moe_layer_freq from zero
        return frozenset(layer for layer in every if layer not in dense and (layer + 1) % step == 0)
    return frozenset(layer for layer in every if layer >= first and layer % step == 0 and layer not in dense)

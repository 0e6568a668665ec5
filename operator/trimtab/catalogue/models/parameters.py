"""How many parameters a model has, by the kind of matrix. Biases of linear layers and per-head scalars are left out.

What is left out is below 0.1 % of every model in the registry. Numbers of elements, not bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.catalogue.models.shape import (
    Attention,
    Block,
    Dense,
    Experts,
    FeedForward,
    GroupedQuery,
    Latent,
    ModelShape,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParameters:
    """One layer: matrices of attention, of the dense or shared feed-forward, of all routed experts; router; norms."""

    attention: int
    feed_forward: int
    experts: int
    router: int
    norms: int

    @property
    def total(self) -> int:
        return self.attention + self.feed_forward + self.experts + self.router + self.norms


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParameters:
    """A whole model. `embedding` counts once where the head is tied to it, and `head` is then 0.

    `active` is what one token is multiplied with: of the experts the share that is chosen, the head, and not the
    embedding, of which a token reads one row, unless the two are tied. Publishers' figures of active parameters
    differ in whether they count the embedding.
    """

    layers: int
    embedding: int
    head: int
    other: int
    active: int

    @property
    def total(self) -> int:
        return self.layers + self.embedding + self.head + self.other


def attention_parameters(attention: Attention, hidden: int) -> int:
    """Elements of the projections of one attention layer of a model that is `hidden` wide."""
    if isinstance(attention, GroupedQuery):
        return _grouped_query(attention, hidden)
    if isinstance(attention, Latent):
        return _latent(attention, hidden)
    keys, values = attention.k_heads * attention.k_dim, attention.v_heads * attention.v_dim
    # Lightning Attention has no convolution and no gates of decay and of the update.
    gates = 2 * attention.v_heads if attention.conv else 0
    return hidden * (2 * keys + 2 * values + gates) + values * hidden + (2 * keys + values) * attention.conv


def feed_forward_parameters(feed_forward: FeedForward, hidden: int) -> int:
    """Elements of what every token passes through: the dense layer, or the shared experts (0 where there are none)."""
    width = feed_forward.intermediate if isinstance(feed_forward, Dense) else feed_forward.shared
    return _matrices(feed_forward) * hidden * width


def expert_parameters(feed_forward: FeedForward, hidden: int) -> int:
    """Elements of one routed expert; 0 for a dense layer."""
    if isinstance(feed_forward, Dense):
        return 0
    return _matrices(feed_forward) * hidden * feed_forward.intermediate


def layer_parameters(block: Block, hidden: int) -> LayerParameters:
    """One of the block's layers."""
    experts = block.feed_forward.experts if isinstance(block.feed_forward, Experts) else 0
    return LayerParameters(
        attention=attention_parameters(block.attention, hidden),
        feed_forward=feed_forward_parameters(block.feed_forward, hidden),
        experts=experts * expert_parameters(block.feed_forward, hidden),
        router=experts * hidden,
        norms=2 * hidden,
    )


def model_parameters(shape: ModelShape) -> ModelParameters:
    """The whole model, without the draft layers for multi-token prediction that some checkpoints carry along."""
    embedding = shape.vocab * shape.hidden
    layers = active = 0
    for block in shape.blocks:
        layer = layer_parameters(block, shape.hidden)
        layers += block.count * layer.total
        active += block.count * (layer.total - layer.experts + _chosen(block, shape.hidden))
    return ModelParameters(
        layers=layers + shape.hidden,
        embedding=embedding,
        head=0 if shape.tied_embeddings else embedding,
        other=shape.other_parameters,
        active=active + shape.hidden + embedding,
    )


def _chosen(block: Block, hidden: int) -> int:
    if isinstance(block.feed_forward, Dense):
        return 0
    return block.feed_forward.topk * expert_parameters(block.feed_forward, hidden)


def _matrices(feed_forward: FeedForward) -> int:
    return 3 if feed_forward.gated else 2


def _grouped_query(attention: GroupedQuery, hidden: int) -> int:
    queries = attention.q_heads * attention.head_dim
    keys_and_values = 2 * attention.kv_heads * attention.head_dim
    return hidden * (queries * (3 if attention.gated else 2) + keys_and_values)


def _latent(attention: Latent, hidden: int) -> int:
    per_head = attention.nope_dim + attention.rope_dim
    queries = attention.heads * per_head
    down = hidden * (attention.kv_rank + attention.rope_dim)
    up = attention.kv_rank * attention.heads * (attention.nope_dim + attention.v_dim)
    out = attention.heads * attention.v_dim * hidden
    # Queries pass through a low rank too, except in the smallest models (DeepSeek-V2-Lite).
    query = attention.q_rank * (hidden + queries) if attention.q_rank else hidden * queries
    return query + down + up + out + _indexer(attention, hidden)


def _indexer(attention: Latent, hidden: int) -> int:
    """Queries from the compressed query, one key, one weight per head (DeepSeek-V3.2-Exp, 2025)."""
    if not attention.index_heads:
        return 0
    queries = (attention.q_rank or hidden) * attention.index_heads * attention.index_dim
    return queries + hidden * (attention.index_dim + attention.index_heads)

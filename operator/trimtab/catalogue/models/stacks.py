"""Shapes from the few numbers that a family's models differ in. Used by the registry; sizes as in `shape.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trimtab.catalogue.models.shape import (
    Attention,
    Block,
    Dense,
    Experts,
    FeedForward,
    GroupedQuery,
    ModelShape,
)

Layer = tuple[Attention, FeedForward]


def blocks_of(layers: Iterable[Layer]) -> tuple[Block, ...]:
    """Layers in their order -> blocks of layers that are alike, in the order of their first layer."""
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return tuple(Block(count, *layer) for layer, count in counts.items())


def mixed(attentions: Sequence[Attention], feed_forwards: Sequence[FeedForward]) -> tuple[Block, ...]:
    """Blocks from one attention and one feed-forward per layer, as far as the layers go."""
    return blocks_of(zip(attentions, feed_forwards, strict=True))


def grouped_query(
    heads: int, kv_heads: int, head_dim: int, *, window: int = 0, bias: bool = False, gated: bool = False
) -> GroupedQuery:
    """Short for the constructor."""
    return GroupedQuery(q_heads=heads, kv_heads=kv_heads, head_dim=head_dim, window=window, bias=bias, gated=gated)


def every(interval: int, layers: int, *, last: Attention, others: Attention) -> tuple[Attention, ...]:
    """One attention per layer: `last` in each interval's last layer, `others` in the rest."""
    return tuple(last if (layer + 1) % interval == 0 else others for layer in range(layers))


def decoder(
    name: str,
    *,
    layers: int,
    hidden: int,
    attention: GroupedQuery,
    intermediate: int,
    vocab: int,
    positions: int,
    tied: bool = False,
    gated: bool = True,
    other: int = 0,
) -> ModelShape:
    """A dense decoder whose layers are all alike."""
    return ModelShape(
        name=name,
        hidden=hidden,
        vocab=vocab,
        blocks=(Block(layers, attention, Dense(intermediate=intermediate, gated=gated)),),
        max_positions=positions,
        tied_embeddings=tied,
        other_parameters=other,
    )


def mixture(
    name: str,
    *,
    layers: int,
    hidden: int,
    attention: Attention,
    experts: Experts,
    vocab: int,
    positions: int,
    first_dense: int = 0,
    dense: int = 0,
    native: str = "bf16",
    native_experts: str = "",
    other: int = 0,
) -> ModelShape:
    """A mixture of experts in all layers but the first `first_dense`, whose feed-forward is `dense` wide."""
    blocks = [Block(layers - first_dense, attention, experts)]
    if first_dense:
        blocks.insert(0, Block(first_dense, attention, Dense(intermediate=dense)))
    return ModelShape(
        name=name,
        hidden=hidden,
        vocab=vocab,
        blocks=tuple(blocks),
        max_positions=positions,
        native=native,
        native_experts=native_experts,
        other_parameters=other,
    )


def vision_tower(layers: int, hidden: int, intermediate: int, *, gated: bool = False) -> int:
    """Parameters of a vision transformer's layers; patches, positions and the projector are a few per cent more."""
    return layers * (4 * hidden * hidden + (3 if gated else 2) * hidden * intermediate)

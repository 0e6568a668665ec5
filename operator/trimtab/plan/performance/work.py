"""What one step of a replica has to do on one GPU: its matrices, expert layers and exchanges, from shape and layout."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from trimtab.catalogue.models.shape import (
    Attention,
    Dense,
    Experts,
    FeedForward,
    GroupedQuery,
    Latent,
    Linear,
    ModelShape,
)
from trimtab.plan.point import Layout


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear layer on one GPU: `outputs` x `inputs` elements in `form`."""

    outputs: int
    inputs: int
    form: str


def share(total: int, gpus: int) -> int:
    """What one GPU holds of `total` heads or columns: whole ones, at least one."""
    return max(1, -(-total // gpus))


def matrices(shape: ModelShape, layout: Layout, form: str) -> Counter[Matrix]:
    """All linear layers of one GPU with how often each occurs; experts and the head are counted elsewhere."""
    found: Counter[Matrix] = Counter()
    for block in shape.blocks:
        for matrix in (
            *_attention(block.attention, shape.hidden, layout, form),
            *_feed_forward(block.feed_forward, shape.hidden, layout, form),
        ):
            found[matrix] += block.count
    return found


def head(shape: ModelShape, layout: Layout) -> Matrix:
    """The language-model head, which engines keep in bf16."""
    return Matrix(share(shape.vocab, layout.tensor), shape.hidden, "bf16")


def _attention(attention: Attention, hidden: int, layout: Layout, form: str) -> tuple[Matrix, ...]:
    match attention:
        case GroupedQuery():
            queries = share(attention.q_heads, layout.tensor) * attention.head_dim
            keys = share(attention.kv_heads, layout.tensor) * attention.head_dim
            wide = queries * (2 if attention.gated else 1) + 2 * keys
            return Matrix(wide, hidden, form), Matrix(hidden, queries, form)
        case Latent():
            return _latent(attention, hidden, layout, form)
        case Linear():
            keys = share(attention.k_heads, layout.tensor) * attention.k_dim
            values = share(attention.v_heads, layout.tensor) * attention.v_dim
            return Matrix(2 * keys + 2 * values, hidden, form), Matrix(hidden, values, form)


def _latent(attention: Latent, hidden: int, layout: Layout, form: str) -> tuple[Matrix, ...]:
    heads = share(attention.heads, layout.tensor)
    wide = heads * (attention.nope_dim + attention.rope_dim)
    compressed = attention.kv_rank + attention.rope_dim
    queries = (
        (Matrix(attention.q_rank + compressed, hidden, form), Matrix(wide, attention.q_rank, form))
        if attention.q_rank
        else (Matrix(wide + compressed, hidden, form),)
    )
    # The absorbed up-projections of keys and values are batched per head: the same bytes and operations as these.
    absorbed = (
        Matrix(attention.kv_rank, heads * attention.nope_dim, "bf16"),
        Matrix(heads * attention.v_dim, attention.kv_rank, "bf16"),
    )
    indexer = (
        (Matrix(attention.index_heads * attention.index_dim, attention.q_rank or hidden, form),)
        if attention.index_heads
        else ()
    )
    return (*queries, *absorbed, *indexer, Matrix(hidden, heads * attention.v_dim, form))


def _feed_forward(layer: FeedForward, hidden: int, layout: Layout, form: str) -> tuple[Matrix, ...]:
    match layer:
        case Dense():
            width = share(layer.intermediate, layout.tensor)
            return Matrix(width * (2 if layer.gated else 1), hidden, form), Matrix(hidden, width, form)
        case Experts():
            router = (Matrix(layer.experts, hidden, "bf16"),)
            if not layer.shared:
                return router
            width = share(layer.shared, layout.tensor)
            return *router, Matrix(width * (2 if layer.gated else 1), hidden, form), Matrix(hidden, width, form)

"""Bytes of weights on the fullest GPU of a replica.

What is sharded and what is not follows vLLM 0.32 and SGLang 0.5 (their linear layers): columns and rows over the
tensor-parallel group; key and value heads copied where there are fewer than GPUs; the low-rank projections of latent
attention, routers and norms on every GPU; experts over the expert-parallel group, the rest of the GPUs splitting each.
The embedding and the head stay in bf16 in the checkpoints of every quantizer in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Final

from trimtab.catalogue.models.parameters import (
    attention_parameters,
    expert_parameters,
    feed_forward_parameters,
)
from trimtab.catalogue.models.shape import Attention, Block, Experts, GroupedQuery, Latent, ModelShape
from trimtab.plan.memory.formats import BF16, WEIGHTS
from trimtab.plan.point import Layout, ServingPoint

_VOCABULARY_MULTIPLE: Final = 64  # rows of the embedding are filled up to it, in all three engines


def weights_bytes(point: ServingPoint) -> int:
    """The fullest pipeline stage's share of one GPU, in bytes."""
    model, layout = point.model, point.layout
    layers = sum(block.count * _layer(point, block) for block in model.blocks)
    share = stage_layers(model.layers, layout.pipeline) / model.layers
    return ceil(layers * share + _vocabulary(model, layout) + BF16 * model.other_parameters / layout.tensor)


def stage_layers(layers: int, pipeline: int) -> int:
    """Layers of the fullest pipeline stage."""
    return ceil(layers / pipeline)


def _vocabulary(model: ModelShape, layout: Layout) -> float:
    """Embedding and head, which stand on different stages; tied, both ends of a pipeline hold the matrix."""
    rows = _VOCABULARY_MULTIPLE * ceil(model.vocab / _VOCABULARY_MULTIPLE)
    matrices = 1 if model.tied_embeddings or layout.pipeline > 1 else 2
    return matrices * BF16 * model.hidden * rows / layout.tensor + BF16 * model.hidden


def _layer(point: ServingPoint, block: Block) -> float:
    return sum(_parts(point, block))


def _parts(point: ServingPoint, block: Block) -> Iterator[float]:
    hidden, layout = point.model.hidden, point.layout
    matrix = WEIGHTS[point.weights]
    yield matrix * _attention(block.attention, hidden, layout.tensor)
    yield BF16 * _absorbed(block.attention) / layout.tensor
    yield matrix * feed_forward_parameters(block.feed_forward, hidden) / _dense_shards(point)
    yield BF16 * 2 * hidden  # norms
    if isinstance(block.feed_forward, Experts):
        experts = ceil(block.feed_forward.experts / layout.expert)
        one = expert_parameters(block.feed_forward, hidden) / layout.expert_tensor
        yield WEIGHTS[point.experts or point.weights] * experts * one
        yield BF16 * block.feed_forward.experts * hidden  # the router


def _attention(attention: Attention, hidden: int, tensor: int) -> float:
    """Elements of the attention matrices on one GPU."""
    whole = attention_parameters(attention, hidden)
    if isinstance(attention, GroupedQuery):
        key_value = 2 * attention.kv_heads * attention.head_dim * hidden
        copies = max(1, tensor // attention.kv_heads)
        return (whole - key_value) / tensor + key_value * copies / tensor
    if isinstance(attention, Latent):
        copied = hidden * (attention.q_rank + attention.kv_rank + attention.rope_dim)
        copied += attention.index_heads * attention.index_dim * (attention.q_rank or hidden)
        copied += hidden * (attention.index_dim + attention.index_heads) if attention.index_heads else 0
        return copied + (whole - copied) / tensor
    return whole / tensor


def _absorbed(attention: Attention) -> int:
    """Latent attention keeps the projections up from the compressed vector a second time, in bf16.

    Engines multiply them into queries and outputs when decoding (vLLM: W_UK and W_UV in `mla_attention.py`).
    """
    if not isinstance(attention, Latent):
        return 0
    return attention.kv_rank * attention.heads * (attention.nope_dim + attention.v_dim)


def _dense_shards(point: ServingPoint) -> int:
    """Over how many GPUs dense and shared feed-forward layers are split.

    With attention data parallelism vLLM and TensorRT-LLM copy them to every group, SGLang splits them over all.
    """
    layout = point.layout
    return layout.tensor * layout.data if point.engine == "sglang" else layout.tensor

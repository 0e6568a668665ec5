"""The KV cache of one GPU: how many bytes a sequence of a given length holds.

vLLM (`v1/core/kv_cache_utils.py` of 0.32) draws blocks for all kinds of layers from one pool: layers are parted into
groups of equal size, each group takes blocks of its own for a sequence, and a block is as large as the widest group.
SGLang and TensorRT-LLM keep one pool per kind of layer. Both are described by the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.catalogue.models.shape import Attention, GroupedQuery, Latent, Linear
from trimtab.plan.memory.formats import KV_CACHE
from trimtab.plan.memory.weights import stage_layers
from trimtab.plan.point import ServingPoint

Numbers: TypeAlias = NDArray[np.float64]

# Tokens of a block where the point does not say: vLLM on GPUs, SGLang's page, TensorRT-LLM's block.
_BLOCK_TOKENS: Final = {"vllm": 16, "sglang": 1, "trtllm": 32}
# On CPUs (`platforms/cpu.py` of vLLM); latent attention has a kernel for blocks of 16 alone.
_CPU_BLOCK_TOKENS: Final = 128
_CPU_LATENT_BLOCK_TOKENS: Final = 16

# Bytes per token and layer of the key cache of an indexer: fp8 with one float32 scale (DeepSeek-V3.2-Exp, 2025).
_INDEX_SCALE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that take blocks together. `window` 0 keeps all tokens; `states` > 0 takes that many blocks, whatever the
    length, for the state of linear attention."""

    block_tokens: int
    block_bytes: int
    window: int = 0
    states: int = 0
    repeats: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One GPU's KV cache. `pooled`: all groups draw whole blocks of one size from one pool (vLLM).

    `in_flight` is how many steps' tokens a sliding window holds beyond itself until they are settled.
    """

    groups: tuple[Group, ...]
    pooled: bool
    in_flight: int

    def sequence_bytes(self, length: Numbers | float, step_tokens: Numbers | float) -> Numbers:
        """Bytes that a sequence of `length` tokens holds at most while prefilled `step_tokens` at a time."""
        total = np.zeros(np.broadcast(length, step_tokens).shape)
        for group in self.groups:
            total += group.repeats * group.block_bytes * self._blocks(group, length, step_tokens)
        return total

    def usable(self, budget: Numbers) -> Numbers:
        """The part of a budget in bytes that whole blocks fill."""
        if not self.pooled:
            return budget
        block = float(self.groups[0].block_bytes)
        return np.asarray(np.floor(budget / block) * block)

    def _blocks(self, group: Group, length: Numbers | float, step_tokens: Numbers | float) -> Numbers:
        if group.states:
            return np.full(np.broadcast(length, step_tokens).shape, float(group.states))
        if not group.window:
            return np.asarray(np.ceil(np.asarray(length) / group.block_tokens))
        held = np.minimum(length, group.window - 1 + self.in_flight * np.asarray(step_tokens))
        # A window seldom begins where a block begins.
        return np.asarray(np.ceil(held / group.block_tokens) + (1.0 if self.pooled else 0.0))


@dataclass(frozen=True, slots=True)
class _Kind:
    """Layers of one kind on one GPU: how many, bytes per token of one, or bytes of its state."""

    layers: int
    token_bytes: int
    window: int = 0
    state_bytes: int = 0


def cache_of(point: ServingPoint) -> Cache:
    """The cache of the fullest pipeline stage's GPU."""
    kinds = tuple(_kinds(point))
    tokens = point.kv_block_tokens or _default_block_tokens(point)
    if point.engine == "vllm":
        # Asynchronous scheduling, which the CPU backend lacks, keeps one more step in flight.
        in_flight = point.layout.pipeline + (0 if point.device.cpu else 1)
        # With prefix caching a state is kept where a block ends, beside the one in use (mamba_cache_mode "align").
        states = 2 if point.prefix_caching else 1
        return Cache(groups=_pooled(kinds, tokens, states), pooled=True, in_flight=in_flight)
    groups = (
        Group(block_tokens=1, block_bytes=kind.layers * kind.state_bytes, states=1)
        if kind.state_bytes
        else Group(block_tokens=tokens, block_bytes=kind.layers * kind.token_bytes * tokens, window=kind.window)
        for kind in kinds
    )
    return Cache(groups=tuple(groups), pooled=False, in_flight=1)


def token_bytes(point: ServingPoint) -> int:
    """Bytes per token of context on one GPU of the fullest stage, of all layers that keep every token."""
    return sum(kind.layers * kind.token_bytes for kind in _kinds(point) if not kind.window and not kind.state_bytes)


def _default_block_tokens(point: ServingPoint) -> int:
    if point.device.cpu:
        latent = any(isinstance(block.attention, Latent) for block in point.model.blocks)
        return _CPU_LATENT_BLOCK_TOKENS if latent else _CPU_BLOCK_TOKENS
    return _BLOCK_TOKENS[point.engine]


def _kinds(point: ServingPoint) -> Iterable[_Kind]:
    """Layers that are alike in their cache, over all blocks of the model."""
    layers: dict[_Kind, int] = {}
    for block in point.model.blocks:
        kind = _kind(point, block.attention)
        layers[kind] = layers.get(kind, 0) + block.count
    total, fullest = point.model.layers, stage_layers(point.model.layers, point.layout.pipeline)
    return (replace(kind, layers=ceil(count * fullest / total)) for kind, count in layers.items())


def _kind(point: ServingPoint, attention: Attention) -> _Kind:
    element, tensor = KV_CACHE[point.kv_cache], point.layout.tensor
    match attention:
        case GroupedQuery():
            heads = max(1, ceil(attention.kv_heads / tensor))
            return _Kind(0, 2 * heads * attention.head_dim * element, attention.window)
        case Latent():  # the same vector on every GPU
            index = attention.index_dim + _INDEX_SCALE if attention.index_heads else 0
            return _Kind(0, _latent(attention, element) + index)
        case Linear():
            return _Kind(0, 0, state_bytes=_state(attention) // tensor)


def _latent(attention: Latent, element: int) -> int:
    """Sparse attention over fp8 keeps the rotary part in bf16 and a scale per 128 elements (vLLM: fp8_ds_mla)."""
    if attention.index_heads and element == 1:
        return attention.kv_rank + 4 * attention.kv_rank // 128 + 2 * attention.rope_dim
    return (attention.kv_rank + attention.rope_dim) * element


def _state(attention: Linear) -> int:
    """Bytes of the recurrent state and of the convolution's last inputs (`mamba_utils.py` of vLLM)."""
    keys, values = attention.k_heads * attention.k_dim, attention.v_heads * attention.v_dim
    recurrent = values * attention.k_dim * (4 if attention.float32_state else 2)
    return recurrent + max(0, attention.conv - 1) * (2 * keys + values) * 2


def _pooled(kinds: tuple[_Kind, ...], tokens: int, states: int) -> tuple[Group, ...]:
    """vLLM's groups. All pages are as large as the largest, which states raise to theirs by longer blocks."""
    per_token = max((kind.token_bytes for kind in kinds), default=0)
    state = max((kind.state_bytes for kind in kinds), default=0)
    if state and per_token:
        tokens *= max(1, ceil(state / (tokens * per_token)))
    page = max(tokens * per_token, state)
    size = _group_layers([kind.layers for kind in kinds])
    return tuple(
        Group(
            block_tokens=tokens * (per_token // kind.token_bytes) if kind.token_bytes else tokens,
            block_bytes=size * page,
            window=kind.window,
            states=states if kind.state_bytes else 0,
            repeats=ceil(kind.layers / size),
        )
        for kind in kinds
    )


def _group_layers(counts: list[int]) -> int:
    """Layers per group: those of the rarest kind, or of the most frequent where the two are nearly as many."""
    least, most = min(counts), max(counts)
    return most if most < 1.5 * least else least

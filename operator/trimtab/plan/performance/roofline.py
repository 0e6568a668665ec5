"""Roofline times of single kernels, in microseconds: what tables of measured kernels are stored relative to.

A kernel takes a start-up time, then as long as its slower resource (Williams et al., 2009, Roofline). Near the ridge
both resources bind, so the two times are joined by a 3-norm instead of a maximum.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Sizes: TypeAlias = Floats | float

# Launch and tail of a small kernel inside a CUDA graph, us: the floor of the measured GEMM and attention tables.
STARTUP_US: Final = 2.5
_MICRO: Final = 1e6


def join(memory: Floats, compute: Floats) -> Floats:
    """3-norm of two times of the same shape and unit."""
    joined: Floats = np.cbrt(memory * memory * memory + compute * compute * compute)
    return joined


def gemm_us(
    m: Floats, n: Floats, k: Floats, *, weight: float, activation: float, flops: float, bandwidth: float
) -> Floats:
    """y[m, n] = x[m, k] w[k, n]; `weight` and `activation` are bytes per element, outputs have 2."""
    moved = n * k * weight + m * k * activation + m * n * 2.0
    return STARTUP_US + _MICRO * join(moved / bandwidth, 2.0 * m * n * k / flops)


def active_experts(tokens: Floats, experts: float, topk: float) -> Floats:
    """Expected number of experts that at least one of `tokens` is routed to, with even and independent routing."""
    idle: Floats = np.expm1(np.maximum(tokens, 1.0) * np.log1p(-min(topk / experts, 1.0 - 1e-9)))
    return -experts * idle


def experts_us(
    tokens: Floats,
    *,
    hidden: float,
    inter: float,
    experts: float,
    topk: float,
    tp: float,
    ep: float,
    weight: float,
    activation: float,
    flops: float,
    bandwidth: float,
    matrices: float = 3.0,
) -> Floats:
    """The expert layer on one GPU of tp * ep: `experts` / ep local experts of width `inter` / tp; no dispatch."""
    width = inter / tp
    local = tokens * topk / ep
    moved = active_experts(tokens, experts, topk) / ep * matrices * hidden * width * weight
    moved = moved + local * hidden * (activation + 2.0)
    return 2.0 * STARTUP_US + _MICRO * join(moved / bandwidth, 2.0 * matrices * local * hidden * width / flops)


def decode_attention_us(
    batch: Floats,
    context: Floats,
    kv_heads: Sizes,
    group: Sizes,
    *,
    head_dim: Sizes,
    cache: float,
    hw: tuple[float, float],
) -> Floats:
    """One query token per sequence over `context` cached tokens; `group` query heads per KV head; hw: (flops, B/s)."""
    pairs = batch * context * kv_heads
    moved = 2.0 * pairs * head_dim * cache
    return STARTUP_US + _MICRO * join(moved / hw[1], 4.0 * pairs * group * head_dim / hw[0])


def prefill_attention_us(pairs: Floats, q_heads: Sizes, *, head_dim: Sizes, flops: float) -> Floats:
    """`pairs` of query and key positions that the mask keeps, per head."""
    return STARTUP_US + _MICRO * 4.0 * pairs * q_heads * head_dim / flops


def latent_decode_us(batch: Floats, context: Floats, heads: Sizes, *, cache: float, hw: tuple[float, float]) -> Floats:
    """Absorbed latent attention with 512 + 64 cached elements per token (DeepSeek-V2, 2024); hw: (flops, B/s)."""
    moved = batch * context * 576.0 * cache
    return STARTUP_US + _MICRO * join(moved / hw[1], 2.0 * batch * context * heads * (576.0 + 512.0) / hw[0])


def latent_prefill_us(pairs: Floats, heads: Sizes, *, flops: float) -> Floats:
    """Unabsorbed latent attention: keys of 128 + 64, values of 128 elements per head."""
    return STARTUP_US + _MICRO * 2.0 * pairs * heads * (192.0 + 128.0) / flops

"""The work of one step as curves over the number of tokens, for one model, device, engine, layout and set of formats.

Everything that depends only on the tokens of a step (matrices, experts, exchanges) is a curve on one token grid;
attention is a plane over sequences and context in decoding, and a curve over the prompt in prefill. Curves do not
depend on limits, traffic or fitted coefficients, so thousands of configurations share a few of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from trimtab.catalogue.gpus import Device
from trimtab.catalogue.models.shape import Block, Experts, GroupedQuery, Latent, ModelShape
from trimtab.plan.memory.formats import KV_CACHE
from trimtab.plan.performance import kernels
from trimtab.plan.performance.formats import FORMATS, peak_of, runs_as
from trimtab.plan.performance.hardware import Hardware, hardware_of
from trimtab.plan.performance.roofline import Floats, active_experts
from trimtab.plan.performance.tables import token_grid
from trimtab.plan.performance.work import head, matrices, share
from trimtab.plan.point import Layout

# Sequences and context of the decode plane, tokens of the prefill curve: powers of two, log-log interpolation between.
SEQUENCES: Final = np.exp2(np.arange(0.0, 13.0))
CONTEXTS: Final = np.exp2(np.arange(4.0, 19.0))
PROMPTS: Final = np.exp2(np.arange(4.0, 19.0))

# Passes over the activations of a layer outside of the matrices (norms, rotary, activation, residual): reads and
# writes of m x hidden in bf16 per layer.
_PASSES: Final = 10.0
_MICRO: Final = 1e6


@dataclass(frozen=True, slots=True)
class Linears:
    """Microseconds on the token grid, shape (24,): tokens are those of one attention group in one pipeline stage."""

    gemm: Floats
    experts: Floats
    exchange: Floats
    passes: Floats
    head: Floats
    launches: float  # of matrices, without experts and head
    bound: Floats  # weights over bandwidth or operations over peak, whichever is longer


@dataclass(frozen=True, slots=True)
class Attentions:
    """Microseconds: `decode` over (SEQUENCES, CONTEXTS), `read` its KV bytes over bandwidth, `prefill` over PROMPTS."""

    decode: Floats
    read: Floats
    prefill: Floats


@lru_cache(maxsize=512)
def linears(shape: ModelShape, device: Device, engine: str, layout: Layout, weights: str, experts: str) -> Linears:
    """The curves of a whole forward pass without attention. Raises ValueError for a GPU that is not known."""
    hardware = hardware_of(device)
    tokens = token_grid()
    counts = matrices(shape, layout, weights)
    gemm = np.zeros_like(tokens)
    for form in sorted({matrix.form for matrix in counts}):
        own = [(matrix, count) for matrix, count in counts.items() if matrix.form == form]
        n, k, each = (np.array(v, np.float64) for v in zip(*((m.outputs, m.inputs, c) for m, c in own), strict=True))
        gemm = gemm + kernels.gemm(hardware, form, n, k) @ each
    last = head(shape, layout)
    top = kernels.gemm(hardware, last.form, np.array([last.outputs], float), np.array([last.inputs], float))[:, 0]
    passes = _PASSES * shape.layers * tokens * shape.hidden * 2.0 / hardware.bandwidth * _MICRO
    mixtures = [block for block in shape.blocks if isinstance(block.feed_forward, Experts)]
    routed = np.zeros_like(tokens)
    for block in mixtures:
        routed = routed + block.count * _experts(block, shape, hardware, engine, layout, experts)
    return Linears(
        gemm=gemm,
        experts=routed,
        exchange=_exchange(shape, hardware, engine, layout, tokens),
        passes=passes,
        head=top,
        launches=float(sum(counts.values())),
        bound=_bound(shape, hardware, layout, weights, experts),
    )


def _experts(block: Block, shape: ModelShape, hardware: Hardware, engine: str, layout: Layout, form: str) -> Floats:
    layer, tokens = block.feed_forward, token_grid()
    assert isinstance(layer, Experts)
    return kernels.experts(
        hardware, form, tokens * layout.data, hidden=shape.hidden, inter=layer.intermediate, count=layer.experts,
        topk=layer.topk, tp=layout.expert_tensor, ep=layout.expert, gated=layer.gated, engine=engine,
    )  # fmt: skip


def _exchange(shape: ModelShape, hardware: Hardware, engine: str, layout: Layout, tokens: Floats) -> Floats:
    """Two all-reduces per layer; under data-parallel attention, experts gather and scatter the tokens of all groups."""
    size = tokens * shape.hidden * 2.0
    mixtures = sum(block.count for block in shape.blocks if isinstance(block.feed_forward, Experts))
    reduce = kernels.all_reduce(hardware, engine, layout.tensor, size)
    if layout.data == 1:
        total = 2.0 * shape.layers * reduce
    else:
        group, whole = layout.tensor * layout.data, size * layout.data
        both = kernels.collective(hardware, "all_gather", group, whole)
        both = both + kernels.collective(hardware, "reduce_scatter", group, whole)
        total = (2.0 * shape.layers - mixtures) * reduce + mixtures * both
    hops = np.full_like(tokens, 10.0 * (layout.pipeline - 1))
    return total + hops + (layout.pipeline - 1) * size / hardware.link * _MICRO


def _bound(shape: ModelShape, hardware: Hardware, layout: Layout, weights: str, experts: str) -> Floats:
    tokens = token_grid()
    moved, work = np.zeros_like(tokens), np.zeros_like(tokens)
    for matrix, count in matrices(shape, layout, weights).items():
        form = FORMATS[runs_as(matrix.form, hardware)]
        size = matrix.outputs * matrix.inputs * count
        moved = moved + size * form.weight
        work = work + 2.0 * size * tokens / _peak(matrix.form, hardware)
    for block in shape.blocks:
        layer = block.feed_forward
        if isinstance(layer, Experts):
            each = (3.0 if layer.gated else 2.0) * shape.hidden * layer.intermediate * block.count
            gpus = layout.tensor * layout.data
            every = tokens * layout.data
            # Skewed routing may leave most experts idle: only topk are certain to be read.
            read = np.minimum(layer.topk, active_experts(every, layer.experts, layer.topk))
            moved = moved + read * each / gpus * FORMATS[runs_as(experts, hardware)].weight
            work = work + 2.0 * every * layer.topk * each / gpus / _peak(experts, hardware)
    return _MICRO * np.maximum(moved / hardware.bandwidth, work)


def _peak(form: str, hardware: Hardware) -> float:
    return peak_of(runs_as(form, hardware), hardware)


@lru_cache(maxsize=512)
def attentions(shape: ModelShape, device: Device, tensor: int, kv_cache: str) -> Attentions:
    """Attention of all layers on one GPU of a tensor-parallel group."""
    hardware = hardware_of(device)
    decode, read = np.zeros((2, len(SEQUENCES), len(CONTEXTS)))
    prefill = np.zeros_like(PROMPTS)
    for block in shape.blocks:
        step, moved, prompt = _attention(block, hardware, tensor, kv_cache)
        decode, read, prefill = decode + block.count * step, read + block.count * moved, prefill + block.count * prompt
    return Attentions(_rising(_rising(decode, 0), 1), read, _rising(prefill, 0))


def _rising(times: Floats, axis: int) -> Floats:
    """Less work never takes longer: it could be padded. Measured kernels break that where one gives way to another."""
    return np.flip(np.minimum.accumulate(np.flip(times, axis), axis), axis)


def _attention(block: Block, hardware: Hardware, tensor: int, cache: str) -> tuple[Floats, Floats, Floats]:
    batch, context = SEQUENCES[:, None], CONTEXTS[None, :]
    size = float(KV_CACHE[cache])
    match block.attention:
        case GroupedQuery() as own:
            queries, keys = share(own.q_heads, tensor), share(own.kv_heads, tensor)
            kept = np.minimum(context, own.window) if own.window else context
            step = kernels.decode_attention(hardware, cache, own.head_dim, keys, queries / keys, batch, kept)
            moved = 2.0 * batch * kept * keys * own.head_dim * size
            prompt = kernels.prefill_attention(hardware, own.head_dim, queries, PROMPTS, own.window)
        case Latent() as own:
            heads = share(own.heads, tensor)
            kept = np.minimum(context, own.sparse_topk) if own.sparse_topk else context
            step = kernels.latent_decode(hardware, cache, heads, batch, kept)
            moved = batch * kept * (own.kv_rank + own.rope_dim) * size
            if own.index_heads:
                step = step + 2.0 + _MICRO * batch * context * own.index_dim / hardware.bandwidth
            prompt = kernels.latent_prefill(hardware, heads, PROMPTS)
        case own:
            state = share(own.v_heads, tensor) * own.k_dim * own.v_dim
            # The state is read and written in fp32 by every token; prefill works through chunks of it.
            moved = np.broadcast_to(8.0 * batch * state, (len(SEQUENCES), len(CONTEXTS)))
            step = 6.0 + 1.4 * _MICRO * moved / hardware.bandwidth
            prompt = 20.0 + _MICRO * 8.0 * PROMPTS * state / (0.25 * hardware.bf16)
    return step, _MICRO * moved / hardware.bandwidth, prompt

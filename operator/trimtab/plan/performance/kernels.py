"""Times of single kernels in microseconds: measured over roofline from the table, times the roofline of the device.

A GPU without a table of its own borrows the ratios of the one it resembles (`Hardware.measured`), so its peaks and its
bandwidth count and only the efficiency is interpolated. No kernel is faster than memory and matrix units allow.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from trimtab.catalogue.gpus import GPUS
from trimtab.plan.memory.formats import KV_CACHE
from trimtab.plan.performance import roofline
from trimtab.plan.performance.formats import FORMATS, peak_of, runs_as
from trimtab.plan.performance.hardware import Hardware
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.tables import ENGINES, at, bilinear, has, table, token_grid

_MICRO: Final = 1e6
# A processor has no kernels to launch: its times are a roofline's, at 80 % of the rates that were measured or given.
_PROCESSOR: Final = 0.22
# It has no instructions for fp8 either: reading an 8-bit cache takes so many times as long as one of 16 bits.
_WIDENING: Final = 2.0
# Which measured format's efficiency stands for one that no table of the GPU holds.
_ALIKE: Final = {
    "mxfp4": "int4_wo", "mxfp4_mxfp8": "fp8_block", "nvfp4": "fp8", "fp8_block": "fp8", "int4_wo": "int8_wo",
    "int8_wo": "bf16", "fp8": "bf16",
}  # fmt: skip


def _key(kind: str, gpu: str, form: str, suffix: str = "") -> str:
    while not has(f"{kind}/{gpu}/{form}{suffix}"):
        if form not in _ALIKE:
            # Weight-only kernels of other GPUs were not measured: A100's stand for them.
            return f"{kind}/A100-SXM/bf16{suffix}"
        form = _ALIKE[form]
    return f"{kind}/{gpu}/{form}{suffix}"


def gemm(hardware: Hardware, form: str, n: Floats, k: Floats) -> Floats:
    """Linear layers of n outputs and k inputs, shape (J,) each -> times at the token grid, shape (24, J)."""
    form = runs_as(form, hardware)
    kind, flops = FORMATS[form], peak_of(form, hardware)
    side = np.log(table("n"))
    cube = table(_key("gemm", hardware.measured, form))
    ratio = bilinear(cube, at(side, np.log(n)), at(side, np.log(k))) if not hardware.cpu else np.float64(_PROCESSOR)
    m = token_grid()[:, None]
    base = roofline.gemm_us(
        m, n[None, :], k[None, :], weight=kind.weight, activation=kind.activation, flops=flops,
        bandwidth=hardware.bandwidth,
    )  # fmt: skip
    floor = _MICRO * np.maximum(n * k * kind.weight / hardware.bandwidth, 2.0 * m * n * k / flops)
    return np.maximum(base * np.exp(ratio), floor)


def decode_attention(
    hardware: Hardware, cache: str, head_dim: int, kv_heads: int, group: float, batch: Floats, context: Floats
) -> Floats:
    """One layer, one token for each of `batch` sequences with `context` tokens in the cache; shapes broadcast."""
    near = min((64, 128, 256), key=lambda size: abs(size - head_dim))
    key = f"decode/{hardware.measured}/{cache}/{near}"
    if not has(key):
        key = f"decode/{hardware.measured}/bf16/128"
    plane = table(key)[:, :, int(np.digitize(group, (2.0, 6.0, 12.0)))]
    units, lengths = np.broadcast_arrays(np.log2(np.maximum(batch * kv_heads, 1.0)), np.log2(np.maximum(context, 2.0)))
    steps = np.arange(17.0)
    measured = bilinear(plane, at(steps[:14], units), at(steps, lengths - 1.0))
    ratio = np.float64(_PROCESSOR) if hardware.cpu else measured
    size = float(KV_CACHE[cache])
    base = roofline.decode_attention_us(
        batch, context, float(kv_heads), float(group), head_dim=head_dim, cache=size,
        hw=(hardware.bf16, hardware.bandwidth),
    )  # fmt: skip
    floor = _MICRO * 2.0 * batch * context * kv_heads * head_dim * size / hardware.bandwidth
    widened = _WIDENING * KV_CACHE["bf16"] / size if hardware.cpu and cache == "fp8" else 1.0
    return np.maximum(base * np.exp(ratio) * widened, floor)


def prefill_attention(hardware: Hardware, head_dim: int, q_heads: int, tokens: Floats, window: int) -> Floats:
    """One layer over a prompt of `tokens` without a cached prefix, causal."""
    near = min((64, 128, 256), key=lambda size: abs(size - head_dim))
    key = f"prefill/{hardware.measured}/{near}"
    if not has(key):
        key = f"prefill/{hardware.measured}/128"
    seen = np.minimum(tokens, window) if window else tokens
    pairs = seen * (seen + 1.0) / 2.0 + (tokens - seen) * seen
    base = roofline.prefill_attention_us(pairs, float(q_heads), head_dim=head_dim, flops=hardware.bf16)
    return base * np.exp(_PROCESSOR if hardware.cpu else _prefill_ratio(key, float(q_heads), tokens))


def _prefill_ratio(key: str, q_heads: float, tokens: Floats) -> Floats:
    units = np.full(tokens.shape, np.log2(q_heads))
    lengths = np.log(np.maximum(tokens, 1.0))
    return bilinear(table(key), at(np.arange(13.0), units), at(np.log(table("prefill")), lengths))


def latent_decode(hardware: Hardware, cache: str, heads: int, batch: Floats, context: Floats) -> Floats:
    """Absorbed latent attention of one layer; `heads` on this GPU."""
    cube = table(f"latent_decode/{hardware.measured}/{cache}")
    low, weight = at(np.arange(8.0), np.array(np.log2(max(1.0, heads))))
    plane = cube[low] * (1.0 - weight) + cube[low + 1] * weight
    units, lengths = np.broadcast_arrays(np.log2(np.maximum(batch, 1.0)), np.log2(np.maximum(context, 2.0)))
    ratio = bilinear(plane, at(np.arange(11.0), units), at(np.arange(17.0), lengths - 1.0))
    size = float(KV_CACHE[cache])
    hw = (hardware.bf16, hardware.bandwidth)
    base = roofline.latent_decode_us(batch, context, float(heads), cache=size, hw=hw)
    return np.maximum(base * np.exp(ratio), _MICRO * batch * context * 576.0 * size / hardware.bandwidth)


def latent_prefill(hardware: Hardware, heads: int, tokens: Floats) -> Floats:
    """Latent attention of one layer over a prompt, not absorbed."""
    pairs = tokens * (tokens + 1.0) / 2.0
    base = roofline.latent_prefill_us(pairs, float(heads), flops=hardware.bf16)
    return base * np.exp(_prefill_ratio(f"latent_prefill/{hardware.measured}", float(heads), tokens))


def experts(
    hardware: Hardware, form: str, tokens: Floats, *, hidden: int, inter: int, count: int, topk: int, tp: int, ep: int,
    gated: bool = True, engine: str = "best",
) -> Floats:  # fmt: skip
    """The experts of one layer on one GPU of tp * ep, for `tokens` that enter the group; routing skewed as measured.

    Ratios come from the measured layer that is alike; others are mixed by their distance in the logarithms of hidden
    size, width per GPU, experts per GPU, share of experts per token, and GPUs. `engine`: whose kernels; `best` is the
    fastest of all, and what counts where the engine's own were not measured.
    """
    form = runs_as(form, hardware)
    kind = FORMATS[form]
    key = _key("moe", hardware.measured, form, "/best/shapes").removesuffix("/best/shapes")
    key += f"/{engine}" if has(f"{key}/{engine}/shapes") else "/best"
    shapes, curves = table(f"{key}/shapes"), table(f"{key}/curves")
    wanted = _features(np.array([[hidden, inter, count, topk, tp, ep]], np.float64))
    distance = np.sqrt(np.sum(np.square(_features(shapes) - wanted), axis=1))
    nearest = np.argsort(distance, kind="stable")[:4]
    weight = 1.0 / np.square(distance[nearest] + 1e-3)
    ratio = (weight[:, None] * curves[nearest]).sum(0) / weight.sum()
    base = roofline.experts_us(
        tokens, hidden=hidden, inter=inter, experts=count, topk=topk, tp=tp, ep=ep, weight=kind.weight,
        activation=kind.activation, flops=peak_of(form, hardware), bandwidth=hardware.bandwidth,
        matrices=3.0 if gated else 2.0,
    )  # fmt: skip
    found = np.interp(np.log(np.maximum(tokens, 1.0)), np.log(table("tokens")), ratio)
    return np.asarray(base * np.exp(found))


def _features(shapes: Floats) -> Floats:
    hidden, inter, count, topk, tp, ep = (np.log2(np.maximum(column, 1e-9)) for column in shapes.T)
    return np.stack([hidden, inter - tp, count - ep, 2.0 * (topk - count), 0.3 * ep], axis=1)


def all_reduce(hardware: Hardware, engine: str, gpus: int, size: Floats) -> Floats:
    """Sum of `size` bytes over `gpus` GPUs with the engine's own kernel or NCCL, whichever is faster; 0 for one GPU."""
    if gpus <= 1:
        return np.zeros_like(size)
    rows = table(f"allreduce/{_linked(hardware)}")
    if np.isnan(rows[:, _column(gpus)]).all():
        rows = table("allreduce/B200-SXM")
    own = rows[ENGINES.index(engine)] if engine in ENGINES else rows[0]
    best = np.fmin(own, rows[0])[_column(gpus)]
    if np.isnan(best).all():
        best = rows[0, _column(gpus)]
    return _over_link(hardware, gpus, best, size, hops=2.0)


def collective(hardware: Hardware, kind: str, gpus: int, size: Floats) -> Floats:
    """`all_gather`, `reduce_scatter` or `all_to_all` of `size` bytes in sum over `gpus` GPUs with NCCL."""
    if gpus <= 1:
        return np.zeros_like(size)
    name = _linked(hardware)
    rows = table(f"collectives/{name}")[("all_gather", "reduce_scatter", "all_to_all").index(kind)]
    if np.isnan(rows[_column(gpus)]).all():
        rows = table("collectives/B200-SXM")[("all_gather", "reduce_scatter", "all_to_all").index(kind)]
    return _over_link(hardware, gpus, rows[_column(gpus)], size, hops=1.0)


def _column(gpus: int) -> int:
    return 0 if gpus <= 2 else 1 if gpus <= 4 else 2


def _linked(hardware: Hardware) -> str:
    """The measured GPU whose link is alike: boards on PCIe resemble L40S whatever their cores are."""
    return hardware.measured if hardware.link > 100e9 and hardware.measured != "L40S" else "L40S"


def _over_link(hardware: Hardware, gpus: int, curve: Floats, size: Floats, *, hops: float) -> Floats:
    sizes = table("messages")
    measured = np.exp(np.interp(np.log(np.maximum(size, sizes[0])), np.log(sizes), curve))
    startup = np.exp(curve[0])
    scale = GPUS[_linked(hardware)].link_bandwidth / hardware.link
    inside = startup + np.maximum(measured - startup, 0.0) * scale
    if gpus <= 8:
        return np.asarray(inside)
    # Beyond 8 GPUs: inside a wide NVLink domain the start-up grows, between nodes 50 GB/s per GPU carry a ring.
    if gpus <= hardware.linked:
        return np.asarray(inside * 1.3)
    return np.asarray(inside + 15.0 + _MICRO * hops * size / gpus / 50e9 * (gpus / 8.0))

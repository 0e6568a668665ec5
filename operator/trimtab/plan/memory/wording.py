"""Sentences about memory: the numbers, and the way out."""

from __future__ import annotations

from typing import Final

from trimtab.plan.point import ServingPoint

_GIB: Final = 1 << 30


def gibibytes(count: float) -> str:
    """`14.9 GiB`, `0.03 GiB`."""
    value = count / _GIB
    return f"{value:.1f} GiB" if value >= 0.95 else f"{value:.2g} GiB"


def memory_unknown(point: ServingPoint) -> str:
    """For a device without figures and a cache without a fixed size."""
    if point.device.cpu:
        return "The memory of the CPU is not known. Set kvCacheMemoryMebibytes, or give the processor's memory."
    return (
        "The GPU is not in the catalogue, so its memory is not known. Name one of the catalogue, or set "
        "kvCacheMemoryMebibytes."
    )


def too_large(
    point: ServingPoint, weights: int, beside: int, usable: int, more_gpus: int | None, smaller: str | None
) -> str:
    """Nothing is left for a KV cache. `more_gpus` and `smaller` are what would leave room, where there is such."""
    ways = []
    if more_gpus is not None:
        ways.append(f"set tensorParallelSize to {more_gpus}")
    if smaller is not None and smaller != point.weights:
        ways.append(f"use a checkpoint in {smaller}")
    if point.kv_cache_bytes is not None:
        ways.append("lower kvCacheMemoryMebibytes")
    ways.append("use a device with more memory" if ways else "Use devices with more memory, or more than one node")
    out = " or ".join(ways)
    asked = "" if point.kv_cache_bytes is None else f", and {gibibytes(point.kv_cache_bytes)} of KV cache are asked for"
    return (
        f"The weights of {point.model.name} take {gibibytes(weights)} on each device and everything else "
        f"{gibibytes(beside)}, of {gibibytes(usable)} in all{asked}: no room for a KV cache. {out[0].upper()}{out[1:]}."
    )


def cache_too_small(point: ServingPoint, length: int, needed: int, held: int, longest: int) -> str:
    """One sequence of the longest context does not fit."""
    lower = f"Set maxModelLen to {longest:,} at most" if longest else "Use more devices"
    return (
        f"One sequence of {length:,} tokens of {point.model.name} needs {gibibytes(needed)} of KV cache on each device "
        f"and {gibibytes(held)} are left for it. {lower}, or free memory: fp8 as kvCacheDtype, smaller weights, more "
        "devices."
    )

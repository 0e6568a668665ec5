"""The condensed kernel measurements that ship with the package, read once and on demand.

Source: github.com/ai-dynamo/aiconfigurator, commit 095f58a51c4ca8e61b66ec108d86f223f8d559ce (Apache-2.0, Copyright
NVIDIA CORPORATION & AFFILIATES); tests/bench/planner/condense.py makes the file. Entries are natural logarithms of
measured over roofline time, except collectives, which are logarithms of microseconds.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trimtab.plan.performance.roofline import Floats

# The order of the first axis of `allreduce/...`.
ENGINES: Final = ("nccl", "sglang", "trtllm", "vllm")


@lru_cache(maxsize=1)
def _archive() -> Mapping[str, NDArray[np.float32]]:
    raw = files("trimtab.plan.performance").joinpath("data", "kernels.npz").read_bytes()
    archive: Mapping[str, NDArray[np.float32]] = np.load(io.BytesIO(raw), allow_pickle=False)
    return archive


@lru_cache(maxsize=256)
def table(key: str) -> Floats:
    """An array by its name. Raises KeyError where there is none; ask `has` first."""
    return _archive()[key].astype(np.float64)


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(_archive())


def has(key: str) -> bool:
    return key in _names()


def token_grid() -> Floats:
    """Tokens of one step at which linear work is tabulated, ascending, shape (24,)."""
    return table("m")


def at(grid: Floats, values: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Lower index and weight of the upper neighbour of `values` in an ascending grid; held flat at the ends."""
    low = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    weight = np.clip((values - grid[low]) / (grid[low + 1] - grid[low]), 0.0, 1.0)
    return low, weight


def bilinear(plane: Floats, rows: tuple[NDArray[np.intp], Floats], cols: tuple[NDArray[np.intp], Floats]) -> Floats:
    """Interpolates the last two axes of `plane` at pairs of (row, column) positions from `at`."""
    (i, u), (j, v) = rows, cols
    top = plane[..., i, j] * (1 - v) + plane[..., i, j + 1] * v
    bottom = plane[..., i + 1, j] * (1 - v) + plane[..., i + 1, j + 1] * v
    return np.asarray(top * (1 - u) + bottom * u)

"""Grids from scattered measurements: smallest per cell, median per cell, gaps filled from the nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def fastest(columns: Mapping[str, NDArray[Any]], key: Sequence[str], value: str) -> dict[str, NDArray[Any]]:
    """One row per key: the engines' smallest median `value` (repeats of one engine: their median)."""
    if not len(columns[value]):
        return {name: columns[name] for name in (*key, value)}
    engines, engine = np.unique(columns["kernel"], return_inverse=True)
    ints = np.stack([_codes(columns[name]) for name in key], 1)
    _, first, inverse = np.unique(ints, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.ravel()
    order = np.lexsort((columns[value], engine, inverse))
    pair = inverse[order] * len(engines) + engine[order]
    starts = np.flatnonzero(np.r_[True, pair[1:] != pair[:-1]])
    ends = np.r_[starts[1:], len(pair)]
    medians = columns[value][order][(starts + ends - 1) // 2]
    best = np.full(len(first), np.inf)
    np.minimum.at(best, inverse[order][starts], medians)
    return {name: columns[name][first] for name in key} | {value: best}


def _codes(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(values, return_inverse=True)[1].ravel().astype(np.int64)


def smallest(columns: Mapping[str, NDArray[Any]], axes: Mapping[str, Sequence[int] | None], value: str) -> Floats:
    """The smallest value per cell of the axes (None: every value that occurs); NaN where there is none."""
    sides = [np.unique(columns[name]) if grid is None else np.array(grid) for name, grid in axes.items()]
    where = tuple(np.searchsorted(side, columns[name]) for side, name in zip(sides, axes, strict=True))
    grid = np.full([len(side) for side in sides], np.inf)
    np.minimum.at(grid, where, columns[value])
    return np.where(np.isinf(grid), np.nan, grid)


def resample(grid: Floats, have: Floats, want: Floats) -> Floats:
    """Log-log interpolation along the first axis, over what is measured there; NaN columns stay NaN."""
    flat = grid.reshape(len(have), -1)
    out = np.full((len(want), flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        known = np.isfinite(flat[:, column])
        if known.sum() >= 2:
            inside = (want >= have[known][0]) & (want <= have[known][-1])
            line = np.interp(np.log(want), np.log(have[known]), np.log(flat[known, column]))
            out[inside, column] = np.exp(line)[inside]
    return out.reshape(len(want), *grid.shape[1:])


def along(have: Floats, times: Floats, want: Floats) -> Floats:
    """Log-log interpolation of times over sizes (repeats: median), held flat at the ends."""
    sides = np.unique(have)
    medians = np.array([np.median(times[have == side]) for side in sides])
    return np.asarray(np.exp(np.interp(np.log(want), np.log(sides), np.log(medians))))


def median(where: Sequence[NDArray[Any]], shape: Sequence[int], values: Floats) -> Floats:
    """Median of the values that fall into each cell; indexes outside are clipped to the edge."""
    index = tuple(np.clip(axis, 0, size - 1).astype(int) for axis, size in zip(where, shape, strict=True))
    flat = np.ravel_multi_index(index, tuple(shape))
    order = np.lexsort((values, flat))
    starts = np.flatnonzero(np.r_[True, flat[order][1:] != flat[order][:-1]])
    ends = np.r_[starts[1:], len(order)]
    grid = np.full(int(np.prod(shape)), np.nan)
    grid[flat[order][starts]] = values[order][(starts + ends - 1) // 2]
    return grid.reshape(shape)


def filled(grid: Floats) -> Floats:
    """NaN cells take the mean of their known neighbours, repeatedly, until none is left."""
    grid = grid.copy()
    while np.isnan(grid).any():
        total, count = np.zeros(grid.shape), np.zeros(grid.shape)
        for axis in range(grid.ndim):
            for step in (-1, 1):
                shifted = np.roll(grid, step, axis)
                edge = [slice(None)] * grid.ndim
                edge[axis] = slice(0, 1) if step == 1 else slice(-1, None)
                shifted[tuple(edge)] = np.nan
                known = np.isfinite(shifted)
                total[known] += shifted[known]
                count[known] += 1
        gaps = np.isnan(grid) & (count > 0)
        grid[gaps] = total[gaps] / count[gaps]
    return grid

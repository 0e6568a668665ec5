"""The curves of several variants side by side, read for many configurations at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.plan.performance.curves import CONTEXTS, PROMPTS, SEQUENCES, Attentions, Linears
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.tables import token_grid

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Factors:
    """Multipliers of kernel times, near 1: what runs inside an engine against what was measured alone."""

    gemm: float = 1.0
    experts: float = 1.0
    exchange: float = 1.0
    attention: float = 1.0
    prefill: float = 1.0


@dataclass(frozen=True, slots=True)
class Stack:
    """`of` maps each configuration to its variant. Times in milliseconds."""

    of: Index
    linear: Floats  # (variants, tokens)
    linear_bound: Floats
    experts: Floats  # the part of `linear` that reads expert weights
    heads: Floats
    decode: Floats  # (variants, sequences, contexts)
    read: Floats
    prefill: Floats  # (variants, prompts)

    def linear_ms(self, tokens: Floats) -> Floats:
        """A forward pass over `tokens` without attention and head."""
        return _along(self.linear, self.of, token_grid(), tokens)

    def bound_ms(self, tokens: Floats) -> Floats:
        """What weights and operations of that pass take at the peak rates."""
        return _along(self.linear_bound, self.of, token_grid(), tokens)

    def shared_ms(self, tokens: Floats, others: Floats) -> Floats:
        """What two passes save when they are one: expert weights that both read are read once."""
        grid = token_grid()
        one, other, both = (_along(self.experts, self.of, grid, t) for t in (tokens, others, tokens + others))
        return np.maximum(one + other - both, 0.0)

    def head_ms(self, sequences: Floats) -> Floats:
        return _along(self.heads, self.of, token_grid(), sequences)

    def decode_ms(self, sequences: Floats, context: Floats) -> Floats:
        """Attention of one decode step."""
        return _plane(self.decode, self.of, sequences, context)

    def read_ms(self, sequences: Floats, context: Floats) -> Floats:
        """The cache that a decode step reads, over the bandwidth."""
        return _plane(self.read, self.of, sequences, context)

    def prefill_ms(self, prompt: Floats) -> Floats:
        """Attention of a whole prompt without a cached prefix."""
        grid = np.log2(PROMPTS)
        position = np.clip(np.log2(np.maximum(prompt, 1.0)) - grid[0], 0.0, len(grid) - 1.0)
        low = np.minimum(position.astype(np.intp), len(grid) - 2)
        part = position - low
        return np.asarray(np.exp(self.prefill[self.of, low] * (1 - part) + self.prefill[self.of, low + 1] * part))


def stack(
    of: Index,
    linears: Sequence[Linears],
    attentions: Sequence[Attentions],
    factors: Factors,
    scales: tuple[Floats, Floats],
) -> Stack:
    """`scales`: factors per variant on everything linear, and on attention."""
    linear = np.stack(
        [
            factors.gemm * v.gemm + factors.experts * v.experts + factors.exchange * v.exchange + v.passes
            for v in linears
        ]
    )
    on_linear, on_attention = scales
    floor = np.stack([v.bound for v in linears])
    planes = factors.attention * on_attention[:, None, None] / 1e3
    return Stack(
        of=of,
        linear=np.maximum(linear * on_linear[:, None], floor) / 1e3,
        linear_bound=floor / 1e3,
        experts=factors.experts * np.stack([v.experts for v in linears]) * on_linear[:, None] / 1e3,
        heads=factors.gemm * np.stack([v.head for v in linears]) / 1e3,
        decode=np.log(planes * np.stack([v.decode for v in attentions])),
        read=np.log(np.maximum(np.stack([v.read for v in attentions]), 1e-6) / 1e3),
        prefill=np.log(factors.prefill * on_attention[:, None] * np.stack([v.prefill for v in attentions]) / 1e3),
    )


def _along(curves: Floats, of: Index, grid: Floats, values: Floats) -> Floats:
    """Linear in the tokens between grid points, and beyond the last one, where work grows in proportion."""
    low = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    part = np.maximum((values - grid[low]) / (grid[low + 1] - grid[low]), 0.0)
    return np.asarray(curves[of, low] * (1 - part) + curves[of, low + 1] * part)


def _plane(planes: Floats, of: Index, sequences: Floats, context: Floats) -> Floats:
    """Log-log interpolation, extended in proportion beyond the largest batch and context."""
    rows = np.maximum(np.log2(np.maximum(sequences, 1.0)), 0.0)
    cols = np.maximum(np.log2(np.maximum(context, 1.0)) - np.log2(CONTEXTS[0]), 0.0)
    i = np.minimum(rows.astype(np.intp), len(SEQUENCES) - 2)
    j = np.minimum(cols.astype(np.intp), len(CONTEXTS) - 2)
    u, v = rows - i, cols - j
    low = planes[of, i, j] * (1 - v) + planes[of, i, j + 1] * v
    high = planes[of, i + 1, j] * (1 - v) + planes[of, i + 1, j + 1] * v
    return np.asarray(np.exp(low * (1 - u) + high * u))

"""The next token of a request from its logits. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Temperature 0 takes the likeliest token; `top_k` 0 is no bound."""

    temperature: float
    top_p: float
    top_k: int

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


def pick(logits: Logits, sampling: Sampling, source: np.random.Generator) -> int:
    """One token. `logits` has one number per token of the vocabulary."""
    if sampling.greedy:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / sampling.temperature
    candidates: NDArray[Any] = np.arange(scaled.size)
    if 0 < sampling.top_k < scaled.size:
        candidates = np.argpartition(scaled, -sampling.top_k)[-sampling.top_k :]
    candidates = candidates[np.argsort(-scaled[candidates], kind="stable")]
    weights = np.exp(scaled[candidates] - scaled[candidates[0]])
    weights /= weights.sum()
    if sampling.top_p < 1:
        # The smallest number of tokens whose share reaches top_p.
        kept = int(np.searchsorted(np.cumsum(weights), sampling.top_p)) + 1
        candidates, weights = candidates[:kept], weights[:kept] / weights[:kept].sum()
    return int(source.choice(candidates, p=weights))

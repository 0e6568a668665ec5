"""The optimization families, sorted by name. A new one is one file here, one entry in this list, and a test."""

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from trimtab.model.plan import Optimization, OptimizationType, Rejected
from trimtab.plan.context import Context
from trimtab.plan.optimizers import batching, kvcache, memory, parallelism, quantization

Optimizer: TypeAlias = Callable[[Context], Iterable[Optimization | Rejected]]

OPTIMIZERS: Final[tuple[tuple[OptimizationType, Optimizer], ...]] = (
    (OptimizationType.BATCHING, batching.optimize),
    (OptimizationType.KV_CACHE, kvcache.optimize),
    (OptimizationType.MEMORY, memory.optimize),
    (OptimizationType.PARALLELISM, parallelism.optimize),
    (OptimizationType.QUANTIZATION, quantization.optimize),
)

"""The memory model: what weights, KV cache and activations of a configuration take, and whether that fits."""

from trimtab.plan.memory.cache import token_bytes
from trimtab.plan.memory.fit import DoesNotFit, Fits, MemoryModel, fit
from trimtab.plan.memory.limits import Limits, limits_of
from trimtab.plan.memory.weights import weights_bytes

__all__ = ["DoesNotFit", "Fits", "Limits", "MemoryModel", "fit", "limits_of", "token_bytes", "weights_bytes"]

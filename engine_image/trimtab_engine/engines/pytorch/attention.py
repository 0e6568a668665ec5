"""Which kernel of attention computes: the fastest one that the hardware, the libraries and the model allow.

Each is tried on the loaded model before it is taken, so that one that is installed for another GPU, or that the model's
number format rules out, is passed over with the reason instead of failing the first request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trimtab_engine.engines.facts import Attention

FLASH = ("flash_attention_3", "flash_attention_2")
LAST = "eager"


def candidates(wanted: str, device: str) -> tuple[str, ...]:
    """The kernels to try, the first first. FlashAttention's kernels are for GPUs; on a CPU, SDPA brings one of its own
    (torch, `aten/src/ATen/native/cpu/FlashAttentionKernel.cpp`)."""
    if wanted in ("auto", "flash"):
        return (*(FLASH if device == "cuda" or wanted == "flash" else ()), "sdpa", LAST)
    return (wanted,) if wanted == LAST else (wanted, LAST)


def choose(names: Sequence[str], *, device: str, fault: Callable[[str], str]) -> Attention:
    """The first of the kernels without a fault; `fault` tries one and says what is wrong with it, or nothing.

    Raises RuntimeError where all have one.
    """
    faults: list[str] = []
    for name in names:
        found = fault(name)
        if not found:
            return Attention(kernel=name, device=device, why="; ".join(faults))
        faults.append(f"{name}: {found}")
    raise RuntimeError(f"no kernel of attention works: {'; '.join(faults)}")


def settle(model: Any, wanted: str) -> Attention:
    """Sets the kernel of a loaded model of transformers."""
    device = str(model.device.type)
    return choose(candidates(wanted, device), device=device, fault=lambda name: _fault(model, name))


def _fault(model: Any, name: str) -> str:
    import torch
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    installed = dict(zip(FLASH, (is_flash_attn_3_available, is_flash_attn_2_available), strict=True))
    if name in installed and not installed[name]():
        return "not installed for this device"
    try:
        model.set_attn_implementation(name)
        if model.config._attn_implementation != name:
            return "this model has no such kernel"
        with torch.no_grad():
            model(torch.tensor([[1, 2, 3]], device=model.device))
    except Exception as error:  # noqa: BLE001 - kernels raise whatever they like
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return ""

"""Number formats of weights, as kernels see them: bytes read per element, and the peak rate they compute at.

Block-scaled formats count their scales: one fp8 scale per 16 elements (nvfp4), one 8-bit exponent per 32 (mxfp4, OCP
Microscaling 1.0), one fp32 scale per 128x128 (fp8_block), one fp16 scale and zero per 128 (int4_wo, as AWQ and GPTQ).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from trimtab.plan.performance.hardware import Hardware


@dataclass(frozen=True, slots=True)
class Format:
    """`weight`, `activation`: bytes per element as read by a kernel. `peaks`: peak rates to try, best first."""

    weight: float
    activation: float
    peaks: tuple[str, ...]


FORMATS: Final = MappingProxyType(
    {
        "bf16": Format(2.0, 2.0, ("bf16",)),
        "fp8": Format(1.0, 1.0, ("fp8", "bf16")),
        "fp8_block": Format(1.0, 1.0, ("fp8", "bf16")),
        "int8_wo": Format(1.0, 2.0, ("bf16",)),
        "int4_wo": Format(0.53, 2.0, ("bf16",)),
        "mxfp4": Format(0.53, 2.0, ("bf16",)),
        "mxfp4_mxfp8": Format(0.53, 1.0, ("fp8", "bf16")),
        "nvfp4": Format(0.5625, 0.5625, ("fp4", "bf16")),
    }
)

# Where a GPU lacks the matrix units, engines read the same weights and compute in bf16 (Marlin kernels).
_WEIGHT_ONLY: Final = {"fp8": "int8_wo", "fp8_block": "int8_wo", "nvfp4": "int4_wo"}


def runs_as(name: str, hardware: Hardware) -> str:
    """The format that a kernel computes `name` in on this hardware. Raises KeyError for a format that is not known."""
    if name == "mxfp4" and hardware.fp4 is not None:
        return "mxfp4_mxfp8"  # engines cast activations to mxfp8 where the units take them
    if hardware.peak(FORMATS[name].peaks[0]) is not None:
        return name
    return _WEIGHT_ONLY.get(name, name)


def peak_of(name: str, hardware: Hardware) -> float:
    """Operations per second of `name` on this hardware."""
    for unit in FORMATS[name].peaks:
        found = hardware.peak(unit)
        if found is not None:
            return found
    return hardware.bf16

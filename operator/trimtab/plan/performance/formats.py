"""Number formats of weights, as kernels see them: bytes read per element, and the unit that they compute on."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from trimtab.plan.memory.formats import WEIGHTS
from trimtab.plan.performance.hardware import Hardware


@dataclass(frozen=True, slots=True)
class Format:
    """`weight`, `activation`: bytes per element, scales included. `unit`: whose peak rate counts."""

    weight: float
    activation: float
    unit: str


FORMATS: Final = MappingProxyType(
    {
        "bf16": Format(WEIGHTS["bf16"], 2.0, "bf16"),
        "fp8": Format(WEIGHTS["fp8"], 1.0, "fp8"),
        "fp8_block": Format(WEIGHTS["fp8_block"], 1.0, "fp8"),
        "int8_wo": Format(WEIGHTS["int8_wo"], 2.0, "bf16"),
        "int4_wo": Format(WEIGHTS["int4_wo"], 2.0, "bf16"),
        "mxfp4": Format(WEIGHTS["mxfp4"], 2.0, "bf16"),
        "mxfp4_mxfp8": Format(WEIGHTS["mxfp4"], 1.0, "fp8"),
        "nvfp4": Format(WEIGHTS["nvfp4"], WEIGHTS["nvfp4"], "fp4"),
    }
)

# Where a GPU lacks the matrix units, engines read the same weights and compute in bf16 (Marlin kernels).
_WEIGHT_ONLY: Final = {"fp8": "int8_wo", "fp8_block": "int8_wo", "nvfp4": "int4_wo"}


def runs_as(name: str, hardware: Hardware) -> str:
    """The format that a kernel computes `name` in on this hardware. Raises KeyError for a format that is not known."""
    if name == "mxfp4" and hardware.fp4 is not None:
        return "mxfp4_mxfp8"  # engines cast activations to mxfp8 where the units take them
    if hardware.peak(FORMATS[name].unit) is not None:
        return name
    return _WEIGHT_ONLY.get(name, name)


def peak_of(name: str, hardware: Hardware) -> float:
    """Operations per second of a format that `runs_as` names."""
    return hardware.peak(FORMATS[name].unit) or hardware.bf16

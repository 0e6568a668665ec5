"""The formats that a model can be quantized to here, and what each may cost. Pure.

Weights of 8 bits and an 8-bit format of floating point need no checkpoint of their own: vLLM makes them while it loads
(`--quantization`), so they are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

# Modules that are rounded in every family of models here, by the sizes of config.json that their inputs have.
_INPUTS: Final = ("hidden_size", "intermediate_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """`base` and `format` are AutoRound's words. `difference`: nats by which a token's log-probability may differ on
    average, unless the user says another.
    """

    title: str
    base: str
    format: str
    symmetric: bool
    grouped: bool
    difference: float


SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "gptq": Scheme(
            title="weights in 4 bits, symmetric groups, as GPTQ writes them",
            base="W4A16",
            format="auto_gptq",
            symmetric=True,
            grouped=True,
            difference=0.25,
        ),
        "awq": Scheme(
            title="weights in 4 bits, groups with a zero point, as AWQ writes them",
            base="W4A16",
            format="auto_awq",
            symmetric=False,
            grouped=True,
            difference=0.25,
        ),
        "int8": Scheme(
            title="weights and activations in 8 bits, as compressed-tensors writes them",
            base="INT8",
            format="llm_compressor",
            symmetric=True,
            grouped=False,
            difference=0.1,
        ),
    }
)


def objection(config: Mapping[str, Any], scheme: Scheme, group_size: int) -> str:
    """Why a model with this config.json cannot be quantized so; empty where nothing is known against it."""
    present = config.get("quantization_config")
    if present:
        method = present.get("quant_method", "another") if isinstance(present, Mapping) else "another"
        return f"config.json says that the model is quantized already ({method}); begin with the original"
    if not config.get("architectures"):
        return "config.json names no architectures, so it is not known how to load the model"
    text = config.get("text_config") or config
    for field in _INPUTS:
        size = text.get(field)
        if scheme.grouped and isinstance(size, int) and size % group_size:
            return (
                f"{field} is {size}, which groups of {group_size} do not divide; "
                f"give --group-size one of {', '.join(str(fit) for fit in (128, 64, 32) if not size % fit) or 'none'}"
            )
    return ""

"""The few fitted coefficients of the engines, and how wide the errors are that they leave.

`tests/bench/planner/fit.py` writes the file from the published measurements; docs/planner.md says how and on what.
Times in milliseconds unless a name says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

ENGINES: Final = ("vllm", "sglang", "trtllm")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCoefficients:
    """Of one engine: what a step costs beside its kernels, and how requests wait for their first token."""

    step: float = 0.4  # once per step
    layer: float = 0.007  # per layer: gaps between kernels, norms and activations
    sequence: float = 0.0045  # per sequence that decodes: sampling, block tables
    host: float = 0.08  # per sequence on the host, beside the GPU's work
    interference: float = 1.03  # of a prefill's time, what the others wait
    first: float = 20.0  # of a request outside of the model: HTTP, tokenizer, scheduling
    burst: float = 0.06  # prefills that one waits for, per running request
    launch: float = 0.25  # per layer and kind of kernel that the host launches in a prefill, which has no graph


# What is known without any fit. SGLang's recipes let it look for new requests every ten steps or more
# (`--scheduler-recv-interval`); vLLM compiles whole pieces of a layer into few kernels.
PRIORS: Final = MappingProxyType(
    {
        "vllm": EngineCoefficients(launch=0.1),
        "sglang": EngineCoefficients(first=80.0),
        "trtllm": EngineCoefficients(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Common to all engines."""

    gemm: float = 1.0  # factors on kernel times
    experts: float = 1.0
    exchange: float = 1.0
    attention: float = 1.0
    prefill_attention: float = 1.0
    prefill_gemm: float = 1.08
    nvfp4: float = 1.1
    fused: float = 0.002  # per fp8 matrix: quantization that the tables hold and engines fuse into other kernels
    block_quantized: float = 0.0025  # per fp8_block matrix in vLLM, which quantizes activations by a kernel of its own
    unfused: float = 0.0025  # per layer, in versions that fuse less
    synchronous: float = 1.2  # per step, in versions that schedule between steps instead of during them
    synchronous_sequence: float = 0.012
    host_step: float = 1.5
    lean_host: float = 0.5  # factor on `host` in versions known to plan a step while the GPU works
    prefill_step: float = 2.5
    first_share: float = 0.3  # of a prefill, waited for beside one's own
    clump: float = 2.0  # prefills, at most, when equal lengths keep requests together
    lockstep: float = 0.3  # of interference, avoided when whole batches prefill together
    lockstep_tokens: float = 16384.0
    rocm: float = 1.25  # factor on kernel times of AMD GPUs, whose kernels were not measured
    early_rocm: float = 1.8  # on top, in versions before 0.8 of vLLM
    early_step: float = 1.0  # per step, in those versions
    early_sequence: float = 0.04


@dataclass(frozen=True, slots=True)
class Spread:
    """Natural-log errors of a kind of point: quantiles 5 % and 95 %, and of the bound that an SLO is held against."""

    low: float
    high: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Everything fitted. `spreads`: by kind of point and metric, as `dense/tpot`."""

    shared: Shared = Shared()
    engines: Mapping[str, EngineCoefficients] = field(default_factory=lambda: dict(PRIORS))
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "shared": asdict(self.shared),
            "engines": {name: asdict(engine) for name, engine in self.engines.items()},
            "spreads": {name: asdict(spread) for name, spread in self.spreads.items()},
        }

    def with_spreads(self, spreads: Mapping[str, Spread]) -> Coefficients:
        return replace(self, spreads=dict(spreads))


def from_json(data: Mapping[str, Any]) -> Coefficients:
    """Raises KeyError or TypeError for another structure."""
    return Coefficients(
        shared=Shared(**data["shared"]),
        engines={name: EngineCoefficients(**engine) for name, engine in data["engines"].items()},
        spreads={name: Spread(**spread) for name, spread in data["spreads"].items()},
    )


@lru_cache(maxsize=1)
def shipped() -> Coefficients:
    """The coefficients that come with the package."""
    text = files("trimtab.plan.performance").joinpath("data/coefficients.json").read_text(encoding="utf-8")
    return from_json(json.loads(text))

"""How long one engine step takes, and how much memory a token needs.

    t(step) = base + per_prefill_token * (prompt tokens computed in it) + per_decode_sequence * (sequences decoding)
              + per_context_token * sum over its sequences of tokens * (tokens already in the cache + tokens / 2)

The default is fitted to a 76 M parameter Llama on vLLM 0.32, one CPU thread (bfloat16). It reproduces the measured
output rate of the closed loop of 32 clients with 64 tokens in and out within 10 % for 1 to 32 sequences, and the
99th percentile of the time between tokens within 10 % for token budgets of 64 to 2048.
Another profile is a JSON object with the same keys, as a file or as text (`--emulator-profile`, `EMULATOR_PROFILE`);
what it leaves out keeps its default.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .scheduler import Step

GIB = 1 << 30

KV_BYTES_PER_VALUE = {
    "float32": 4.0,
    "float": 4.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "fp8_inc": 1.0,
    "fp8_per_token_head": 1.0,
    "int8_per_token_head": 1.0,
    "int4_per_token_head": 0.5,
    "nvfp4": 0.5,
}


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Multiplies the terms of the step time; 1 changes nothing."""

    base: float = 1.0
    prefill: float = 1.0
    decode: float = 1.0

    def __mul__(self, other: Factors) -> Factors:
        return Factors(
            base=self.base * other.base, prefill=self.prefill * other.prefill, decode=self.decode * other.decode
        )


# Ratios of measured rates (one client, 16 clients, prefill of 512-token prompts) to those of the plain model.
_MEASURED_FACTORS: dict[str, Factors] = {
    "dtype=float32": Factors(base=1.78, prefill=1.84, decode=1.80),
    "quantization=compressed-tensors": Factors(base=0.79, prefill=0.70, decode=0.75),
    "quantization=gptq": Factors(base=1.57, prefill=1.92, decode=1.85),
    "quantization=auto_gptq": Factors(base=1.57, prefill=1.92, decode=1.85),
    "quantization=awq": Factors(base=1.57, prefill=1.92, decode=1.85),
    "quantization=auto_awq": Factors(base=1.57, prefill=1.92, decode=1.85),
    "quantization=int8_per_channel_weight_only": Factors(base=1.09, prefill=1.05, decode=1.06),
    "enforce_eager": Factors(base=1.20, prefill=1.16, decode=1.18),
    "tensor_parallel=2": Factors(base=0.76, prefill=0.56, decode=0.80),
    "tensor_parallel=4": Factors(base=0.62, prefill=0.32, decode=0.60),
    "tensor_parallel=8": Factors(base=0.60, prefill=0.20, decode=0.45),
    "threads=2": Factors(base=1.05, prefill=0.58, decode=0.72),
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A machine and a model. Times in seconds, memory in bytes."""

    name: str = "cpu-1-thread-llama-76m"
    platform: str = "cpu"
    devices: int = 8
    device_memory_bytes: int = 4 * GIB
    base_seconds: float = 0.0064
    per_prefill_token: float = 0.00038
    per_decode_sequence: float = 0.00063
    per_context_token: float = 3.5e-7
    layers: int = 12
    heads: int = 12
    kv_heads: int = 4
    head_size: int = 64
    weight_bytes: int = 152_000_000
    max_model_len: int = 2048
    checkpoint_dtype: str = "bfloat16"
    checkpoint_quantization: str | None = None
    bytes_per_prompt_token: float = 1.0
    factors: Mapping[str, Factors] = field(default_factory=lambda: dict(_MEASURED_FACTORS))

    def kv_bytes_per_token(self, kv_dtype: str, tensor_parallel: int = 1) -> float:
        """Bytes that one token takes in the KV cache of one device."""
        name = self.checkpoint_dtype if kv_dtype == "auto" else kv_dtype
        per_value = KV_BYTES_PER_VALUE.get(name, 2.0)
        return 2 * self.layers * max(1.0, self.kv_heads / tensor_parallel) * self.head_size * per_value

    def factor(self, *names: str) -> Factors:
        """The product of the named factors; a name that is not listed counts as 1."""
        product = Factors()
        for name in names:
            product *= self.factors.get(name, Factors())
        return product

    def step_seconds(self, step: Step, factor: Factors) -> float:
        """The duration of one step."""
        prefill = decode = 0
        context = 0.0
        for part in step.parts:
            if part.decodes:
                decode += 1
            else:
                prefill += part.tokens
            context += part.tokens * (part.context + part.tokens / 2)
        return (
            self.base_seconds * factor.base
            + (self.per_prefill_token * prefill + self.per_context_token * context) * factor.prefill
            + self.per_decode_sequence * decode * factor.decode
        )


def load_profile(path: str | None, model: str) -> Profile:
    """The profile of a run: the default, then `path` (a file or the JSON itself), then the model folder's config.json.

    Raises:
        ValueError: the file is no JSON object or has an unknown key.
        OSError: the file cannot be read.
    """
    profile = Profile()
    if path:
        data = json.loads(path if path.lstrip().startswith("{") else Path(path).read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"{path}: a profile is a JSON object")
        profile = _overlay(profile, data, path)
    config = Path(model) / "config.json"
    if config.is_file():
        profile = _with_model(profile, json.loads(config.read_text(encoding="utf-8")))
    return profile


def _overlay(profile: Profile, data: dict[str, Any], source: str) -> Profile:
    known = {f.name for f in dataclasses.fields(Profile)}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"{source}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    values = dict(data)
    if "factors" in values:
        own = {name: Factors(**terms) for name, terms in values["factors"].items()}
        values["factors"] = {**profile.factors, **own}
    return dataclasses.replace(profile, **values)


def _with_model(profile: Profile, config: dict[str, Any]) -> Profile:
    """The memory shape of a Hugging Face config.json; times stay those of the profile."""
    heads = int(config.get("num_attention_heads", profile.heads))
    hidden = int(config.get("hidden_size", heads * profile.head_size))
    quantization = config.get("quantization_config") or {}
    return dataclasses.replace(
        profile,
        layers=int(config.get("num_hidden_layers", profile.layers)),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads", heads)),
        head_size=int(config.get("head_dim") or hidden // heads),
        max_model_len=int(config.get("max_position_embeddings", profile.max_model_len)),
        checkpoint_dtype=str(config.get("dtype") or config.get("torch_dtype") or profile.checkpoint_dtype),
        checkpoint_quantization=quantization.get("quant_method", profile.checkpoint_quantization),
    )

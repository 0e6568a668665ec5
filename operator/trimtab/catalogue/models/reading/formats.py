"""The format of the weights that `quantization_config` describes, in the words of `ServingPoint`."""

from __future__ import annotations

from collections.abc import Mapping

from trimtab.catalogue.models.reading.fields import ConfigError, Fields

_WAY_OUT = "Give the format of the weights as precision instead."


def native_formats(config: Mapping[str, object], text: Fields) -> tuple[str, str]:
    """Formats of the layers' matrices and, where it differs, of the experts' (empty otherwise).

    Only for what a checkpoint stores; what an engine quantizes while loading is a choice of the plan.
    """
    found = config.get("quantization_config") or text.get("quantization_config")
    if found is None:
        return "bf16", ""
    if not isinstance(found, Mapping):
        raise ConfigError("quantization_config", f"is {found!r} and must be an object")
    quantization = Fields(found, "quantization_config")
    fmt = _format(quantization)
    if fmt == "mxfp4" or _leaves_attention(quantization):
        return "bf16", fmt
    return fmt, ""


def _format(quantization: Fields) -> str:
    method = str(quantization.get("quant_method", "quant_algo") or "").lower()
    match method:
        case "fp8":
            return "fp8" if quantization.get("weight_block_size") is None else "fp8_block"
        case "fbgemm_fp8":
            return "fp8"
        case "mxfp4":
            return "mxfp4"
        case "awq" | "gptq" | "auto-round" | "intel/auto-round":
            return _integer(quantization, quantization.number("bits", "w_bit"))
        case "bitsandbytes":
            return "int4_wo" if quantization.flag("load_in_4bit", "_load_in_4bit") else "int8_wo"
        case "compressed-tensors":
            return _compressed(quantization)
        case _ if method.startswith("modelopt"):
            return _modelopt(quantization)
    raise ConfigError("quantization_config.quant_method", f"is {method!r}, which the planner does not know", _WAY_OUT)


def _integer(quantization: Fields, bits: int) -> str:
    if bits not in (4, 8):
        raise ConfigError(quantization.name("bits"), f"is {bits}; the planner knows 4 and 8", _WAY_OUT)
    return f"int{bits}_wo"


def _modelopt(quantization: Fields) -> str:
    algorithm = str(quantization.get("quant_algo") or "").upper()
    if algorithm.startswith("NVFP4") or algorithm == "FP4":
        return "nvfp4"
    if algorithm == "FP8":
        return "fp8"
    raise ConfigError(quantization.name("quant_algo"), f"is {algorithm!r}; the planner knows FP8 and NVFP4", _WAY_OUT)


def _compressed(quantization: Fields) -> str:
    """The first group decides; mixed checkpoints quantize their largest matrices in it."""
    groups = quantization.get("config_groups")
    group = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping):
        raise ConfigError(quantization.name("config_groups"), "does not say how weights are quantized", _WAY_OUT)
    described = Fields(weights, quantization.name("config_groups"))
    bits = described.number("num_bits")
    if described.get("type") == "int":
        return _integer(described, bits)
    if bits == 8:
        return "fp8_block" if described.get("strategy") == "block" else "fp8"
    return "mxfp4" if described.optional("group_size") == 32 else "nvfp4"


def _leaves_attention(quantization: Fields) -> bool:
    """Whether attention in all layers stays as it was, as in checkpoints that quantize the experts alone."""
    ignored = quantization.get("ignore", "modules_to_not_convert", "exclude_modules")
    if not isinstance(ignored, list):
        return False
    names = [str(name).removeprefix("re:") for name in ignored]
    return any("self_attn" in name and "*" in name and "layers.0" not in name for name in names)

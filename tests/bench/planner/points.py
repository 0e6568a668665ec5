"""Rows of measurement files as serving points and traffic: configuration columns only, measured ones are never read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from trimtab.catalogue.gpus import Device, find_device
from trimtab.catalogue.models import find_model, read_config
from trimtab.catalogue.models.shape import Experts, Latent, ModelShape
from trimtab.plan.point import Layout, ServingPoint, Traffic

Row = Mapping[str, str]

# Lengths of these runs are drawn from 0.8 to 1.0 of the nominal ones.
_DRAWN = {"inferencex": 0.9}
_ENGINES = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm", "tensorrt-llm": "trtllm", "tensorrtllm": "trtllm"}
# Drafts of the usual multi-token prediction, and the part of them that is accepted (DeepSeek-V3, 2024, section 5.4.3,
# has 85 to 90 % for the first drafted token; the second is accepted less often).
_DRAFTED = 2
_ACCEPTED = 0.7
_PLAIN = {"": "", "bf16": "bf16", "bfloat16": "bf16", "fp16": "bf16", "float16": "bf16", "half": "bf16", "auto": ""}
_FORMATS = _PLAIN | {
    "fp8": "fp8", "float8": "fp8", "w8a8": "fp8", "fp8_block": "fp8_block", "fp4": "nvfp4", "nvfp4": "nvfp4",
    "mxfp4": "mxfp4", "w4a16_mxfp4": "mxfp4", "w4a8_mxfp4_mxfp8": "mxfp4", "int8": "int8_wo", "sq": "int8_wo",
    "int8_wo": "int8_wo", "int4": "int4_wo", "int4_wo": "int4_wo", "awq": "int4_wo", "gptq": "int4_wo",
    "w4a16": "int4_wo",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One row as the model takes it."""

    point: ServingPoint
    traffic: Traffic


def case_of(row: Row, config: Mapping[str, object] | None = None) -> Case:
    """`config` is the model's config.json, for a model that the registry does not know.

    Raises ValueError with a sentence that names the column when a row cannot be answered.
    """
    model = _model(row.get("model") or "", config)
    device = _device(row.get("gpu") or "")
    engine = engine_of(row)
    weights, experts = formats_of(row, model)
    scale = _DRAWN.get(row.get("origin", ""), 1.0)
    layout = layout_of(row)
    return Case(
        ServingPoint(
            model=model, device=device, engine=engine, version=row.get("engine_version", ""), layout=layout,
            weights=weights, experts=experts, kv_cache=cache_of(row, engine, weights),
            draft_tokens=_DRAFTED if _speculates(row) else 0,
        ),
        Traffic(
            prompt=max(1.0, scale * number(row, "isl", 1024.0)),
            output=max(2.0, scale * number(row, "osl", 256.0)),
            concurrency=max(1.0, number(row, "concurrency", 1.0)),
            prompt_variation=0.064 if scale < 1 else 0.0,
            output_variation=0.064 if scale < 1 else 0.0,
            accept=_ACCEPTED if _speculates(row) else 0.0,
        ),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _device(name: str) -> Device:
    found = find_device(name)
    if found.gpu is None:
        raise ValueError(f"gpu: the catalogue does not know {name!r}.")
    return found


@lru_cache(maxsize=256)
def _registered(name: str) -> ModelShape | None:
    return find_model(name)


def _model(name: str, config: Mapping[str, object] | None) -> ModelShape:
    found = _registered(name)
    if found is None and config is not None:
        return read_config(config, name=name).shape
    if found is None:
        raise ValueError(f"model: the registry does not know {name!r}, and no config.json was given.")
    return found


def _speculates(row: Row) -> bool:
    return (row.get("spec_decode") or "").strip().lower() not in (
        "",
        "none",
        "unknown",
        "nan",
        "false",
        "no",
        "off",
        "0",
    )


def number(row: Row, name: str, otherwise: float) -> float:
    """A positive number; `otherwise` where the column is absent or empty. Raises ValueError where it is no number."""
    text = (row.get(name) or "").strip()
    if not text or text.lower() == "nan":
        return otherwise
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is no number.") from None
    return value if value > 0 else otherwise


def engine_of(row: Row) -> str:
    label = (row.get("engine") or "vllm").lower()
    key = label.replace(" ", "").replace("_", "-")
    return next((name for word, name in _ENGINES.items() if word in key), "vllm" if "trt" not in key else "trtllm")


def layout_of(row: Row) -> Layout:
    """tp counts the GPUs that attention is split over; attention DP multiplies them where num_gpus says so."""
    tensor, pipeline, data, expert = (max(1, int(number(row, name, 1))) for name in ("tp", "pp", "attn_dp", "moe_ep"))
    gpus = int(number(row, "num_gpus", tensor * pipeline))
    if 1 < tensor == data and expert == tensor * data:
        # A known defect of such files: tensor parallelism with expert parallelism over the same GPUs, written twice.
        return Layout(tensor=tensor, pipeline=pipeline, expert=tensor)
    if tensor * pipeline * data > gpus and data > 1:
        tensor = max(1, gpus // (data * pipeline))  # tp was given as the size of the whole group
    return Layout(tensor=tensor, pipeline=pipeline, data=data, expert=max(1, min(expert, tensor * data)))


def formats_of(row: Row, model: ModelShape) -> tuple[str, str]:
    """Formats of the layers' matrices and of the experts: as the model is published for the precision that is named."""
    named = _FORMATS.get((row.get("weight_precision") or "").lower(), "")
    gemm = _FORMATS.get((row.get("gemm_quant_mode") or "").lower(), "") or named
    moe = _FORMATS.get((row.get("moe_quant_mode") or "").lower(), "") or gemm
    mixture = any(isinstance(block.feed_forward, Experts) for block in model.blocks)
    latent = any(isinstance(block.attention, Latent) for block in model.blocks)
    native = model.native_experts or model.native
    if not mixture:
        return gemm or model.native, ""
    if native == "mxfp4":
        # Published with 4-bit experts and bf16 elsewhere: other labels name what activations are cast to.
        return "bf16", "mxfp4"
    if moe == "nvfp4":
        return ("bf16" if latent else "nvfp4"), "nvfp4"
    if "fp8" in (gemm, moe) and native == "fp8_block":
        return "fp8_block", "fp8_block"
    return gemm or model.native, moe or native


def cache_of(row: Row, engine: str, weights: str) -> str:
    named = (row.get("kv_cache_dtype") or row.get("kv_dtype") or "").lower()
    if named:
        return "fp8" if "8" in named.replace("16", "") else "bf16"
    # Checkpoints quantized by ModelOpt hold scales of an fp8 cache, which these engines follow; so do their recipes.
    return "fp8" if engine in ("trtllm", "vllm") and weights in ("fp8", "nvfp4") else "bf16"

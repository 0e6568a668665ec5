"""What the flags of vLLM 0.32 mean together: defaults of the platform, and the combinations that the engine refuses.

The messages are those of the engine (`vllm/config/*.py`, `vllm/v1/core/kv_cache_utils.py`), shortened where they only
give advice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .profile import Factors, Profile, load_profile
from .scheduler import Limits

# `QUANTIZATION_METHODS` of vLLM 0.32, in its order; the last six quantize an unquantized checkpoint while loading it.
QUANTIZATIONS = (
    *("awq", "auto_awq", "fp8", "fbgemm_fp8", "fp_quant", "modelopt", "modelopt_fp4", "modelopt_mxfp8"),
    *("modelopt_mixed", "auto_gptq", "gptq", "gptq_marlin", "awq_marlin", "humming", "compressed-tensors"),
    *("experts_int8", "quark", "moe_wna16", "torchao", "inc", "mxfp4", "gpt_oss_mxfp4", "deepseek_v4_fp8", "online"),
    *("fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "int8_per_channel_weight_only", "nvfp4_per_token", "mxfp8"),
)
FROM_CHECKPOINT = frozenset(QUANTIZATIONS[:-6]) - {"fp8", "online"}
DEPRECATED_QUANTIZATIONS = frozenset({"fbgemm_fp8", "fp_quant"})
NOT_ON_A_CPU = frozenset({"fp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "nvfp4_per_token", "mxfp8"})
BUCKET_FAMILIES = (
    *("inter_token_latency", "iteration_tokens", "kv_cache_residency", "request_latency", "request_num_preemptions"),
    *("request_params_n", "request_tokens", "time_to_first_token"),
)
CPU_KV_DTYPES = frozenset({"auto", "fp8", "fp8_e4m3", "fp8_e5m2", "bfloat16", "float16", "int8_per_token_head"})


class ConfigRefusedError(Exception):
    """The engine does not start with these flags; `late` when it notices only after loading the model."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What the flags mean, with the defaults of the platform filled in."""

    model: str
    served_model_names: tuple[str, ...]
    host: str
    port: int
    limits: Limits
    profile: Profile
    factor: Factors
    kv_cache_dtype: str
    kv_cache_bytes: int
    gpu_memory_utilization: float
    max_num_seqs: int
    max_num_queued_reqs: int | None
    max_num_queued_tokens: int | None
    shutdown_timeout: int
    log_stats: bool
    enable_prompt_tokens_details: bool
    enable_force_include_usage: bool
    api_keys: tuple[str, ...]
    speed: float
    startup_seconds: float
    histogram_buckets: Mapping[str, list[float]] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)


def resolve(flags: Mapping[str, Any]) -> EngineConfig:
    """Defaults and validation of parsed flags; names with underscores."""
    model = str(flags.get("model_tag") or flags.get("model") or "Qwen/Qwen3-0.6B")
    profile = _profile(flags, model)
    _at_least_one(flags)
    max_model_len = _max_model_len(flags, profile)
    tensor_parallel = int(flags.get("tensor_parallel_size", 1))
    _check_parallel(flags, profile, tensor_parallel)
    quantization = _check_quantization(flags, profile)
    max_num_seqs, batched = _batch_limits(flags, profile, max_model_len, tensor_parallel)
    block_size = int(flags.get("block_size", 128 if profile.platform == "cpu" else 16))
    kv_dtype = str(flags.get("kv_cache_dtype", "auto"))
    utilization = float(flags.get("gpu_memory_utilization", 0.92))
    kv_bytes = _kv_bytes(flags, profile, utilization, tensor_parallel)
    _check_late(flags, profile, block_size, kv_dtype, quantization)
    per_block = block_size * profile.kv_bytes_per_token(kv_dtype, tensor_parallel)
    blocks = int(flags.get("num_gpu_blocks_override", int(kv_bytes // per_block)))
    _check_fits(blocks, block_size, max_model_len, per_block, kv_bytes)
    names = flags.get("served_model_name") or [model]
    active = min(max_num_seqs, int(flags.get("max_num_active_seqs", max_num_seqs)))
    return EngineConfig(
        model=model,
        served_model_names=tuple(names),
        host=str(flags.get("host") or "0.0.0.0"),
        port=int(flags.get("port", 8000)),
        limits=Limits(
            max_num_seqs=active,
            max_batched_tokens=int(flags.get("max_num_scheduled_tokens", batched)),
            max_model_len=max_model_len,
            kv_blocks=blocks,
            block_size=block_size,
            prefix_caching=bool(flags.get("enable_prefix_caching", True)),
            chunked_prefill=bool(flags.get("enable_chunked_prefill", True)),
            long_prefill_token_threshold=int(flags.get("long_prefill_token_threshold", 0)),
            watermark=float(flags.get("watermark", 0.0)),
            priority=flags.get("scheduling_policy") == "priority",
        ),
        profile=profile,
        factor=_factor(flags, profile, quantization, tensor_parallel),
        kv_cache_dtype=kv_dtype,
        kv_cache_bytes=kv_bytes,
        gpu_memory_utilization=utilization,
        max_num_seqs=max_num_seqs,
        max_num_queued_reqs=flags.get("max_num_queued_reqs"),
        max_num_queued_tokens=flags.get("max_num_queued_tokens"),
        shutdown_timeout=int(flags.get("shutdown_timeout", 0)),
        log_stats=not flags.get("disable_log_stats", False),
        enable_prompt_tokens_details=bool(flags.get("enable_prompt_tokens_details", False)),
        enable_force_include_usage=bool(flags.get("enable_force_include_usage", False)),
        api_keys=tuple(flags.get("api_key") or ()),
        speed=float(flags.get("emulator_speed", 1.0)),
        startup_seconds=float(flags.get("emulator_startup_seconds", 1.0)),
        histogram_buckets=_buckets(flags),
        flags=dict(flags),
    )


def _invalid(config: str, problem: str = "", *, fields: Mapping[str, str] | None = None) -> ConfigRefusedError:
    """The shape of the engine's validation errors: one problem of the whole, or one for each of some fields."""
    problems = fields or {"": f"Value error, {problem}"}
    lines = [
        "pydantic_core._pydantic_core.ValidationError: "
        f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} for {config}"
    ]
    for name, text in problems.items():
        kind = "value_error" if text.startswith("Value error") else "greater_than_equal"
        lines += [name] if name else []
        lines.append(f"  {text} [type={kind}]")
        lines.append(f"    For further information visit https://errors.pydantic.dev/2.14/v/{kind}")
    return ConfigRefusedError("\n".join(lines))


def _profile(flags: Mapping[str, Any], model: str) -> Profile:
    try:
        return load_profile(flags.get("emulator_profile"), model)
    except (ValueError, OSError, TypeError) as error:
        raise ConfigRefusedError(f"ValueError: {error}") from error


def _at_least_one(flags: Mapping[str, Any]) -> None:
    problem = "Input should be greater than or equal to 1"
    names = ("max_num_batched_tokens", "max_num_scheduled_tokens", "max_num_seqs", "max_num_active_seqs")
    wrong = [name for name in names if flags.get(name, 1) < 1]
    # The defaults of these two are capped by each other, so that a default is refused with the value that was given.
    pair = ("max_num_batched_tokens", "max_num_seqs")
    if any(name in wrong for name in pair):
        wrong += [name for name in pair if name not in flags]
    if wrong:
        raise _invalid(
            "SchedulerConfig", fields={name: f"{problem} [input_value={flags.get(name, 0)}]" for name in wrong}
        )
    if flags.get("block_size", 1) < 1:
        raise _invalid("CacheConfig", fields={"block_size": "Input should be greater than 0"})
    if not 0 < flags.get("gpu_memory_utilization", 0.92) <= 1:
        raise _invalid("CacheConfig", fields={"gpu_memory_utilization": "Input should be greater than 0 and at most 1"})
    if not 0 <= flags.get("watermark", 0.0) < 1:
        raise _invalid("SchedulerConfig", fields={"watermark": "Input should be less than 1"})


def _max_model_len(flags: Mapping[str, Any], profile: Profile) -> int:
    asked = int(flags.get("max_model_len", profile.max_model_len))
    if asked == -1:
        return profile.max_model_len
    if asked > profile.max_model_len:
        raise _invalid(
            "ModelConfig",
            f"User-specified max_model_len ({asked}) is greater than the derived max_model_len "
            f"(max_position_embeddings={profile.max_model_len:.1f} or model_max_length=None in model's config.json).",
        )
    return asked


def _check_parallel(flags: Mapping[str, Any], profile: Profile, tensor_parallel: int) -> None:
    if tensor_parallel < 1:
        raise _invalid("ParallelConfig", fields={"tensor_parallel_size": "Input should be greater than or equal to 1"})
    if profile.heads % tensor_parallel:
        raise _invalid(
            "VllmConfig",
            f"Total number of attention heads ({profile.heads}) must be divisible by tensor parallel "
            f"size ({tensor_parallel}).",
        )
    world = tensor_parallel * int(flags.get("pipeline_parallel_size", 1))
    if world > profile.devices:
        raise _invalid(
            "ParallelConfig",
            f"World size ({world}) is larger than the number of available GPUs ({profile.devices}) in this node.",
        )


def _check_quantization(flags: Mapping[str, Any], profile: Profile) -> str | None:
    asked = flags.get("quantization")
    if asked is None:
        return profile.checkpoint_quantization
    if asked not in QUANTIZATIONS:
        known = list(QUANTIZATIONS)
        raise _invalid("ModelConfig", f"Unknown quantization method: {asked}. Must be one of {known}.")
    if asked in DEPRECATED_QUANTIZATIONS and not flags.get("allow_deprecated_quantization"):
        raise _invalid("ModelConfig", f"The quantization method {asked} is deprecated")
    if profile.checkpoint_quantization not in {None, asked}:
        raise _invalid(
            "ModelConfig",
            "Quantization method specified in the model config "
            f"({profile.checkpoint_quantization}) does not match the quantization method specified in the "
            f"`quantization` argument ({asked}).",
        )
    return str(asked)


def _batch_limits(
    flags: Mapping[str, Any], profile: Profile, max_model_len: int, tensor_parallel: int
) -> tuple[int, int]:
    """`max_num_seqs` and `max_num_batched_tokens` with the defaults of the platform."""
    default_seqs, default_tokens = _platform_defaults(profile, tensor_parallel)
    if flags.get("performance_mode") == "throughput":
        default_seqs, default_tokens = 2 * default_seqs, 2 * default_tokens
    seqs_given, tokens_given = flags.get("max_num_seqs"), flags.get("max_num_batched_tokens")
    tokens = int(tokens_given) if tokens_given is not None else default_tokens
    seqs = int(seqs_given) if seqs_given is not None else min(default_seqs, tokens)
    if tokens_given is None:
        if flags.get("enable_chunked_prefill") is False:
            tokens = max(tokens, max_model_len)
        tokens = max(seqs, min(tokens, seqs * max_model_len))
    if tokens < max_model_len and flags.get("enable_chunked_prefill") is False:
        raise _invalid(
            "SchedulerConfig",
            f"max_num_batched_tokens ({tokens}) is smaller than max_model_len ({max_model_len}). This "
            "effectively limits the maximum sequence length to max_num_batched_tokens and makes vLLM reject longer "
            "sequences. Please increase max_num_batched_tokens or decrease max_model_len.",
        )
    if tokens < seqs:
        raise _invalid(
            "SchedulerConfig",
            f"max_num_batched_tokens ({tokens}) must be greater than or equal to max_num_seqs ({seqs}).",
        )
    active = flags.get("max_num_active_seqs")
    if active is not None and active > seqs:
        raise _invalid(
            "SchedulerConfig",
            f"max_num_active_seqs ({active}) cannot be greater than max_num_seqs ({seqs}).",
        )
    threshold = flags.get("long_prefill_token_threshold", 0)
    if threshold > max_model_len:
        raise _invalid(
            "SchedulerConfig",
            f"long_prefill_token_threshold ({threshold}) cannot be greater than the max_model_len ({max_model_len}).",
        )
    return seqs, tokens


def _platform_defaults(profile: Profile, world: int) -> tuple[int, int]:
    """`EngineArgs.get_batch_defaults` of vLLM 0.32: sequences and tokens."""
    if profile.platform == "cpu":
        return 128 * world, 2048 * world
    gib = profile.device_memory_bytes / (1 << 30)
    if gib >= 160:
        return 1024, 16384
    if gib >= 70:
        return 1024, 8192
    return 256, 2048


def _kv_bytes(flags: Mapping[str, Any], profile: Profile, utilization: float, tensor_parallel: int) -> int:
    given = flags.get("kv_cache_memory_bytes")
    if given is not None:
        return int(given)
    weights = profile.weight_bytes // tensor_parallel
    return int(profile.device_memory_bytes * utilization - weights)


def _check_late(
    flags: Mapping[str, Any], profile: Profile, block_size: int, kv_dtype: str, quantization: str | None
) -> None:
    """What the engine notices only while it loads the model."""
    online = flags.get("quantization")
    if online in FROM_CHECKPOINT and profile.checkpoint_quantization is None:
        raise ConfigRefusedError(f"ValueError: Cannot find the config file for {online}", late=True)
    if profile.platform != "cpu":
        return
    if block_size % 32:
        raise ConfigRefusedError(
            f"RuntimeError: Worker failed with error 'No common block size for {block_size} (CPU_ATTN: "
            "[MultipleOf(32)]).', please check the stack trace above for the root cause",
            late=True,
        )
    if online in NOT_ON_A_CPU and profile.checkpoint_quantization is None:
        raise ConfigRefusedError(
            "RuntimeError: _C::static_scaled_fp8_quant() expected at most 0 argument(s) but received 4 argument(s).",
            late=True,
        )
    if kv_dtype not in CPU_KV_DTYPES:
        raise ConfigRefusedError(f"NotImplementedError: kv_cache_dtype {kv_dtype} is not supported on CPU", late=True)
    if flags.get("kv_offloading_size"):
        raise ConfigRefusedError(
            "Exception: CPU Offloading is currently only supported on CUDA-alike and XPU GPUs", late=True
        )


def _check_fits(blocks: int, block_size: int, max_model_len: int, per_block: float, kv_bytes: int) -> None:
    if kv_bytes <= 0 or blocks < 1:
        raise ConfigRefusedError(
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            "initializing the engine (this flag also controls CPU memory reservation on the CPU backend, despite its "
            "name). See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details.",
            late=True,
        )
    needed = -(-max_model_len // block_size)
    if needed * per_block > max(kv_bytes, blocks * per_block):
        raise ConfigRefusedError(
            f"ValueError: To serve at least one request with the model's max seq len ({max_model_len}), "
            f"({needed * per_block / (1 << 30):.2f} GiB KV cache is needed, which is larger than the available KV "
            f"cache memory ({kv_bytes / (1 << 30):.2f} GiB). The estimated maximum model length is "
            f"{max(0, blocks) * block_size}. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` "
            "when initializing the engine.",
            late=True,
        )


def _factor(flags: Mapping[str, Any], profile: Profile, quantization: str | None, tensor_parallel: int) -> Factors:
    dtype = {"float": "float32", "half": "float16"}.get(str(flags.get("dtype", "auto")), str(flags.get("dtype")))
    names = [f"dtype={dtype}", f"tensor_parallel={tensor_parallel}"]
    if quantization:
        names.append(f"quantization={quantization}")
    if flags.get("enforce_eager") or str(flags.get("optimization_level")) == "0":
        names.append("enforce_eager")
    return profile.factor(*names)


def _buckets(flags: Mapping[str, Any]) -> dict[str, list[float]]:
    """`--custom-histogram-buckets`, with the engine's rules: known families, finite, rising."""
    given = flags.get("custom_histogram_buckets")
    if given is None:
        return {}
    name = "custom_histogram_buckets"
    if not isinstance(given, dict):
        raise _invalid("ObservabilityConfig", fields={name: "Input should be a valid dictionary"})
    problem = ""
    for family, edges in given.items():
        if family not in BUCKET_FAMILIES:
            problem = f"{name}: unknown bucket family {family!r}; known families: {list(BUCKET_FAMILIES)}"
        elif not edges:
            problem = f"{name}[{family!r}]: bucket list must not be empty"
        elif any(not math.isfinite(edge) or edge <= 0 for edge in edges):
            problem = f"{name}[{family!r}]: bounds must be finite and greater than 0"
        elif any(low >= high for low, high in pairwise(edges)):
            problem = f"{name}[{family!r}]: bounds {edges} must be strictly increasing"
        if problem:
            raise _invalid("ObservabilityConfig", fields={name: f"Value error, {problem}"})
    return {family: [float(edge) for edge in edges] for family, edges in given.items()}

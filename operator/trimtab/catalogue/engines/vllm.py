"""vLLM 0.12 to 0.32: knobs, flags, defaults and what it refuses.

Sources: `vllm/engine/arg_utils.py` and `vllm/config/*.py` of the releases 0.12, 0.14, 0.16, 0.18, 0.20, 0.22, 0.24,
0.26, 0.28, 0.30, 0.31 and 0.32, and `vllm serve --help=all` of 0.32 (recorded in `tests/vllm/recordings`). Where a
flag appeared between two of these releases, `since` is the later one.
"""

from collections.abc import Mapping
from typing import Final

from trimtab.catalogue.engine import Conflict, EngineCatalogue
from trimtab.catalogue.gpus import GIB, Device
from trimtab.catalogue.knob import (
    Flag,
    Knob,
    KnobType,
    Rendering,
    Risk,
    Version,
    always,
    by_version,
    choices,
)
from trimtab.model.config import KnobValue

_SPECULATIVE = "speculative-config"


def _default_max_num_seqs(_version: Version, device: Device) -> int | None:
    """`EngineArgs.get_batch_defaults`, for the API server."""
    if device.cpu:
        return 128
    if device.gpu is None:
        return None
    large = device.gpu.memory_bytes >= 70 * GIB and not device.gpu.name.startswith("A100")
    return 1024 if large or device.gpu.memory_bytes >= 160 * GIB else 256


def _default_max_num_batched_tokens(version: Version, device: Device) -> int | None:
    """`EngineArgs.get_batch_defaults`, for the API server; the largest GPUs have had a step of their own since 0.28."""
    if device.cpu:
        return 2048
    if device.gpu is None:
        return None
    if device.gpu.memory_bytes >= 160 * GIB and version >= (0, 28, 0):
        return 16384
    large = device.gpu.memory_bytes >= 70 * GIB and not device.gpu.name.startswith("A100")
    return 8192 if large else 2048


def _default_block_size(_version: Version, device: Device) -> int:
    return 128 if device.cpu else 16


_BATCHING = (
    Knob(
        name="maxNumSeqs",
        type=KnobType.INTEGER,
        description="How many sequences one engine step works on at most; also sizes buffers and compiled graphs.",
        flags=(Flag("max-num-seqs"),),
        minimum=1,
        maximum=65536,
        unit="sequences",
        default=_default_max_num_seqs,
    ),
    Knob(
        name="maxNumActiveSeqs",
        type=KnobType.INTEGER,
        description="How many sequences run at most, below maxNumSeqs, without a new compilation.",
        flags=(Flag("max-num-active-seqs", since=(0, 31, 0)),),
        minimum=1,
        maximum=65536,
        unit="sequences",
    ),
    Knob(
        name="maxNumBatchedTokens",
        type=KnobType.INTEGER,
        description="How many tokens, of prompts and of decoding, one engine step computes at most.",
        flags=(Flag("max-num-batched-tokens"),),
        minimum=1,
        maximum=1 << 24,
        unit="tokens",
        default=_default_max_num_batched_tokens,
    ),
    Knob(
        name="maxNumScheduledTokens",
        type=KnobType.INTEGER,
        description="The token budget of one step, below maxNumBatchedTokens, without a new compilation.",
        flags=(Flag("max-num-scheduled-tokens", since=(0, 26, 0)),),
        minimum=1,
        maximum=1 << 24,
        unit="tokens",
    ),
    Knob(
        name="longPrefillTokenThreshold",
        type=KnobType.INTEGER,
        description="The most tokens of one long prompt per step while other requests are there; 0 is off.",
        flags=(Flag("long-prefill-token-threshold"),),
        minimum=0,
        maximum=1 << 24,
        unit="tokens",
        default=always(0),
    ),
    Knob(
        name="enableChunkedPrefill",
        type=KnobType.BOOLEAN,
        description="Whether a long prompt is computed in pieces between decoding steps.",
        flags=(Flag("enable-chunked-prefill", Rendering.SWITCH),),
        default=always(True),
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="schedulingPolicy",
        type=KnobType.TEXT,
        description="Which waiting request runs next.",
        flags=(Flag("scheduling-policy"),),
        choices=choices("fcfs", "priority"),
        closed=True,
        default=always("fcfs"),
    ),
    Knob(
        name="maxNumQueuedRequests",
        type=KnobType.INTEGER,
        description="How many requests may be in the engine before a new one is refused with 503.",
        flags=(Flag("max-num-queued-reqs", since=(0, 30, 0)),),
        minimum=0,
        maximum=1 << 24,
        unit="requests",
        risk=Risk.HIGH,
    ),
    Knob(
        name="performanceMode",
        type=KnobType.TEXT,
        description="A bundle of the engine's own defaults.",
        flags=(Flag("performance-mode", since=(0, 18, 0)),),
        choices=choices("balanced", "interactivity", "throughput"),
        closed=True,
        default=always("balanced"),
    ),
    Knob(
        name="streamInterval",
        type=KnobType.INTEGER,
        description="How many tokens are gathered before they are sent to a streaming client.",
        flags=(Flag("stream-interval"),),
        minimum=1,
        maximum=1024,
        unit="tokens",
        default=always(1),
    ),
)

_KV_CACHE = (
    Knob(
        name="enablePrefixCaching",
        type=KnobType.BOOLEAN,
        description="Whether the KV cache of a prompt's beginning is used again by later prompts.",
        flags=(Flag("enable-prefix-caching", Rendering.SWITCH),),
        default=always(True),
    ),
    Knob(
        name="kvCacheDtype",
        type=KnobType.TEXT,
        description="The number format of the KV cache; fp8 holds twice the tokens in the same memory.",
        flags=(Flag("kv-cache-dtype"),),
        choices=(
            *choices("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "fp8_ds_mla"),
            *choices("float16", since=(0, 18, 0)),
            *choices("fp8_per_token_head", "int8_per_token_head", "nvfp4", since=(0, 20, 0)),
            *choices("turboquant_3bit_nc", "turboquant_4bit_nc", "turboquant_k3v4_nc", since=(0, 20, 0)),
            *choices("turboquant_k8v4", since=(0, 20, 0)),
            *choices("int4_per_token_head", since=(0, 26, 0)),
            *choices("nvfp4_4over6", since=(0, 28, 0)),
            *choices("nvfp4_ds_mla", since=(0, 30, 0)),
            *choices("ultraquant_4bit", since=(0, 32, 0)),
        ),
        closed=True,
        default=always("auto"),
        risk=Risk.HIGH,
        alters_outputs=True,
    ),
    Knob(
        name="blockSize",
        type=KnobType.INTEGER,
        description="Tokens in one block of the KV cache, which is also the grain of prefix caching.",
        flags=(Flag("block-size"),),
        minimum=1,
        maximum=4096,
        unit="tokens",
        default=_default_block_size,
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="maxModelLen",
        type=KnobType.INTEGER,
        description="The longest context, prompt and output together; longer requests are refused.",
        flags=(Flag("max-model-len"),),
        minimum=1,
        maximum=1 << 26,
        unit="tokens",
        risk=Risk.HIGH,
    ),
    Knob(
        name="kvOffloadGibibytes",
        type=KnobType.INTEGER,
        description="Host memory that takes KV blocks evicted from the GPU, summed over tensor-parallel ranks.",
        flags=(Flag("kv-offloading-size"),),
        minimum=1,
        maximum=65536,
        unit="GiB",
        risk=Risk.MEDIUM,
        gpu_only=True,
    ),
    Knob(
        name="kvWatermarkPercent",
        type=KnobType.INTEGER,
        description="The share of KV blocks that stays free when a request is admitted, against preemptions.",
        flags=(Flag("watermark", Rendering.PERCENT, since=(0, 24, 0)),),
        minimum=0,
        maximum=99,
        unit="percent",
        default=always(0),
    ),
)

_MEMORY = (
    Knob(
        name="gpuMemoryUtilizationPercent",
        type=KnobType.INTEGER,
        description="The share of the device's memory that the engine takes for weights, activations and KV cache.",
        flags=(Flag("gpu-memory-utilization", Rendering.PERCENT),),
        minimum=1,
        maximum=100,
        unit="percent",
        default=by_version(((0, 12, 0), 90), ((0, 20, 0), 92)),
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="kvCacheMemoryMebibytes",
        type=KnobType.INTEGER,
        description="The size of the KV cache; replaces the size that follows from gpuMemoryUtilizationPercent.",
        flags=(Flag("kv-cache-memory-bytes", Rendering.MEBIBYTES),),
        minimum=1,
        maximum=1 << 24,
        unit="MiB",
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="cpuOffloadGibibytes",
        type=KnobType.INTEGER,
        description="Weights held in host memory and read on every step: room on the GPU for speed.",
        flags=(Flag("cpu-offload-gb"),),
        minimum=0,
        maximum=65536,
        unit="GiB",
        default=always(0),
        risk=Risk.MEDIUM,
        gpu_only=True,
    ),
    Knob(
        name="enforceEager",
        type=KnobType.BOOLEAN,
        description="No compilation and no CUDA graphs: a quicker start, slower steps.",
        flags=(Flag("enforce-eager", Rendering.SWITCH),),
        default=always(False),
    ),
    Knob(
        name="optimizationLevel",
        type=KnobType.INTEGER,
        description="How much is compiled: 0 starts soonest, 3 runs fastest.",
        flags=(Flag("optimization-level"),),
        minimum=0,
        maximum=3,
        default=always(2),
    ),
    Knob(
        name="asyncScheduling",
        type=KnobType.BOOLEAN,
        description="Whether the next step is scheduled while the current one runs.",
        flags=(Flag("async-scheduling", Rendering.SWITCH),),
    ),
)

_WEIGHTS = (
    Knob(
        name="quantization",
        type=KnobType.TEXT,
        description="How weights are quantized; without it, as the checkpoint says.",
        flags=(Flag("quantization"),),
        choices=choices("awq", "compressed-tensors", "fp8", "gptq", "gptq_marlin", "modelopt", "mxfp4", "torchao"),
        risk=Risk.HIGH,
        alters_outputs=True,
    ),
    Knob(
        name="dtype",
        type=KnobType.TEXT,
        description="The number format of weights and activations that are not quantized.",
        flags=(Flag("dtype"),),
        choices=choices("auto", "bfloat16", "float", "float16", "float32", "half"),
        closed=True,
        default=always("auto"),
        risk=Risk.HIGH,
        alters_outputs=True,
    ),
    Knob(
        name="speculativeMethod",
        type=KnobType.TEXT,
        description="How several tokens are guessed ahead and verified in one step.",
        flags=(Flag(_SPECULATIVE, Rendering.JSON, key="method"),),
        choices=choices("draft_model", "eagle", "eagle3", "medusa", "mlp_speculator", "ngram", "suffix"),
        risk=Risk.HIGH,
        alters_outputs=True,
    ),
    Knob(
        name="speculativeTokens",
        type=KnobType.INTEGER,
        description="How many tokens are guessed ahead.",
        flags=(Flag(_SPECULATIVE, Rendering.JSON, key="num_speculative_tokens"),),
        minimum=1,
        maximum=64,
        unit="tokens",
    ),
    Knob(
        name="speculativeModel",
        type=KnobType.TEXT,
        description="The draft model or head.",
        flags=(Flag(_SPECULATIVE, Rendering.JSON, key="model"),),
        risk=Risk.HIGH,
    ),
    Knob(
        name="speculativeLookupMaximum",
        type=KnobType.INTEGER,
        description="For ngram: the longest run of tokens looked up in the prompt.",
        flags=(Flag(_SPECULATIVE, Rendering.JSON, key="prompt_lookup_max"),),
        minimum=1,
        maximum=64,
        unit="tokens",
    ),
    Knob(
        name="speculativeLookupMinimum",
        type=KnobType.INTEGER,
        description="For ngram: the shortest run of tokens looked up in the prompt.",
        flags=(Flag(_SPECULATIVE, Rendering.JSON, key="prompt_lookup_min"),),
        minimum=1,
        maximum=64,
        unit="tokens",
    ),
)

_PARALLELISM = (
    Knob(
        name="tensorParallelSize",
        type=KnobType.INTEGER,
        description="Devices that share each layer; the attention heads must divide by it.",
        flags=(Flag("tensor-parallel-size"),),
        minimum=1,
        maximum=1024,
        unit="devices",
        default=always(1),
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="pipelineParallelSize",
        type=KnobType.INTEGER,
        description="Groups of devices that hold consecutive layers.",
        flags=(Flag("pipeline-parallel-size"),),
        minimum=1,
        maximum=1024,
        unit="stages",
        default=always(1),
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="dataParallelSize",
        type=KnobType.INTEGER,
        description="Copies of the engine behind one port.",
        flags=(Flag("data-parallel-size"),),
        minimum=1,
        maximum=1024,
        unit="copies",
        default=always(1),
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="enableExpertParallel",
        type=KnobType.BOOLEAN,
        description="Whether a mixture-of-experts model spreads its experts over devices.",
        flags=(Flag("enable-expert-parallel", Rendering.SWITCH),),
        default=always(False),
        risk=Risk.MEDIUM,
    ),
)


def _number(values: Mapping[str, KnobValue], knob: str) -> int | None:
    value = values.get(knob)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def at_most(small: str, large: str) -> Conflict:
    """The engine refuses a value of `small` above that of `large`."""

    def check(values: Mapping[str, KnobValue], _on_cpu: bool | None) -> str | None:
        low, high = _number(values, small), _number(values, large)
        if low is None or high is None or low <= high:
            return None
        return f"{small} ({low}) may not exceed {large} ({high}): lower the first or raise the second."

    return Conflict(check, certain=True)


def _whole_prompt_fits(values: Mapping[str, KnobValue], _on_cpu: bool | None) -> str | None:
    budget, longest = _number(values, "maxNumBatchedTokens"), _number(values, "maxModelLen")
    if values.get("enableChunkedPrefill") is not False or budget is None or longest is None or budget >= longest:
        return None
    return (
        f"Without chunked prefill a prompt is computed in one step, so maxNumBatchedTokens ({budget}) must be at least"
        f" maxModelLen ({longest})."
    )


def _speculation_is_complete(values: Mapping[str, KnobValue], _on_cpu: bool | None) -> str | None:
    if not any(name.startswith("speculative") for name in values):
        return None
    if "speculativeMethod" not in values and "speculativeModel" not in values:
        return "Speculative decoding needs speculativeMethod or speculativeModel."
    if values.get("speculativeMethod") == "ngram" and "speculativeTokens" not in values:
        return "The ngram method needs speculativeTokens."
    return None


def _one_kv_size(values: Mapping[str, KnobValue], _on_cpu: bool | None) -> str | None:
    if "kvCacheMemoryMebibytes" in values and "gpuMemoryUtilizationPercent" in values:
        return "gpuMemoryUtilizationPercent has no effect while kvCacheMemoryMebibytes is set."
    return None


def _block_size_fits(values: Mapping[str, KnobValue], on_cpu: bool | None) -> str | None:
    size = _number(values, "blockSize")
    if not on_cpu or size is None or size % 32 == 0:
        return None
    return f"On a CPU blockSize must be a multiple of 32; with {size} vLLM 0.32 ends while it starts."


VLLM: Final = EngineCatalogue(
    name="vllm",
    title="vLLM",
    scores_text=True,
    since=(0, 12, 0),
    until=(0, 33, 0),
    all_knobs=_BATCHING + _KV_CACHE + _MEMORY + _WEIGHTS + _PARALLELISM,
    conflicts=(
        at_most("maxNumSeqs", "maxNumBatchedTokens"),
        at_most("maxNumActiveSeqs", "maxNumSeqs"),
        at_most("maxNumScheduledTokens", "maxNumBatchedTokens"),
        at_most("longPrefillTokenThreshold", "maxModelLen"),
        Conflict(_whole_prompt_fits, certain=True),
        Conflict(_speculation_is_complete, certain=True),
        Conflict(_one_kv_size, certain=False),
        Conflict(_block_size_fits, certain=False),
    ),
)

"""SGLang 0.5.3 to 0.5.23: knobs, flags and defaults. The radix cache is on unless it is disabled.

Sources: `sglang/srt/server_args.py` of the releases 0.5.3, 0.5.6, 0.5.10 and `sglang/srt/arg_groups/fields/*.py` of
0.5.14, 0.5.17, 0.5.20, 0.5.22 and 0.5.23. Where a value appeared between two of them, `since` is the later one. Not run
here: SGLang needs a GPU.
"""

from typing import Final

from trimtab.catalogue.engine import EngineCatalogue
from trimtab.catalogue.gpus import GIB, Device
from trimtab.catalogue.knob import Flag, Knob, KnobType, Rendering, Risk, Version, always, choices


def _default_chunk(_version: Version, device: Device) -> int | None:
    """`chunked_prefill_size` by memory, as `ServerArgs` chooses it."""
    if device.gpu is None:
        return None
    steps = ((20 * GIB, 2048), (60 * GIB, 4096), (160 * GIB, 8192))
    return next((tokens for memory, tokens in steps if device.gpu.memory_bytes < memory), 16384)


_BATCHING = (
    Knob(
        name="maxNumSeqs",
        type=KnobType.INTEGER,
        description="How many requests run at most.",
        flags=(Flag("max-running-requests"),),
        minimum=1,
        maximum=65536,
        unit="requests",
    ),
    Knob(
        name="maxNumBatchedTokens",
        type=KnobType.INTEGER,
        description="The most tokens of one prompt that are computed in one step (chunked prefill).",
        flags=(Flag("chunked-prefill-size"),),
        minimum=1,
        maximum=1 << 24,
        unit="tokens",
        default=_default_chunk,
    ),
    Knob(
        name="maxPrefillTokens",
        type=KnobType.INTEGER,
        description="The most prompt tokens in one prefill batch.",
        flags=(Flag("max-prefill-tokens"),),
        minimum=1,
        maximum=1 << 24,
        unit="tokens",
        default=always(16384),
    ),
    Knob(
        name="enableMixedChunk",
        type=KnobType.BOOLEAN,
        description="Whether prefill and decoding share a step.",
        flags=(Flag("enable-mixed-chunk", Rendering.PRESENCE),),
        default=always(False),
    ),
    Knob(
        name="schedulingPolicy",
        type=KnobType.TEXT,
        description="Which waiting request runs next; lpm prefers the longest cached prefix.",
        flags=(Flag("schedule-policy"),),
        choices=(
            *choices("dfs-weight", "fcfs", "lof", "lpm", "priority", "random"),
            *choices("routing-key", since=(0, 5, 10)),
            *choices("hrrn", since=(0, 5, 20)),
            *choices("shortest-prefill-first", since=(0, 5, 23)),
        ),
        closed=True,
        default=always("fcfs"),
    ),
    Knob(
        name="maxNumQueuedRequests",
        type=KnobType.INTEGER,
        description="How many requests may wait before a new one is refused with 503.",
        flags=(Flag("max-queued-requests"),),
        minimum=1,
        maximum=1 << 24,
        unit="requests",
        risk=Risk.HIGH,
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
        description="Whether RadixAttention uses the KV cache of shared prefixes again.",
        flags=(Flag("disable-radix-cache", Rendering.ABSENCE),),
        default=always(True),
    ),
    Knob(
        name="prefixEvictionPolicy",
        type=KnobType.TEXT,
        description="Which prefix leaves the radix cache first.",
        flags=(Flag("radix-eviction-policy"),),
        choices=(
            *choices("lfu", "lru"),
            *choices("slru", since=(0, 5, 10)),
            *choices("priority", since=(0, 5, 14)),
            *choices("tlru", since=(0, 5, 23)),
        ),
        closed=True,
        default=always("lru"),
    ),
    Knob(
        name="kvCacheDtype",
        type=KnobType.TEXT,
        description="The number format of the KV cache; fp8 holds twice the tokens in the same memory.",
        flags=(Flag("kv-cache-dtype"),),
        choices=(
            *choices("auto", "fp8_e4m3", "fp8_e5m2"),
            *choices("bf16", "bfloat16", since=(0, 5, 10)),
            *choices("mxfp8", "nvfp4", "fp4_mx_block16", since=(0, 5, 23)),
        ),
        closed=True,
        default=always("auto"),
        risk=Risk.HIGH,
        alters_outputs=True,
    ),
    Knob(
        name="blockSize",
        type=KnobType.INTEGER,
        description="Tokens in one page of the KV cache.",
        flags=(Flag("page-size"),),
        minimum=1,
        maximum=4096,
        unit="tokens",
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="maxModelLen",
        type=KnobType.INTEGER,
        description="The longest context, prompt and output together; longer requests are refused.",
        flags=(Flag("context-length"),),
        minimum=1,
        maximum=1 << 26,
        unit="tokens",
        risk=Risk.HIGH,
    ),
    Knob(
        name="enableKvOffload",
        type=KnobType.BOOLEAN,
        description="Whether evicted KV pages go to host memory (hierarchical cache).",
        flags=(Flag("enable-hierarchical-cache", Rendering.PRESENCE),),
        default=always(False),
        risk=Risk.MEDIUM,
        gpu_only=True,
    ),
    Knob(
        name="kvOffloadGibibytes",
        type=KnobType.INTEGER,
        description="The size of the hierarchical cache in host memory; needs enableKvOffload.",
        flags=(Flag("hicache-size"),),
        minimum=0,
        maximum=65536,
        unit="GB",
        default=always(0),
        risk=Risk.MEDIUM,
        gpu_only=True,
    ),
)

_MEMORY = (
    Knob(
        name="gpuMemoryUtilizationPercent",
        type=KnobType.INTEGER,
        description="The share of GPU memory for weights and KV cache; activations take the rest.",
        flags=(Flag("mem-fraction-static", Rendering.PERCENT),),
        minimum=1,
        maximum=99,
        unit="percent",
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
)

_WEIGHTS = (
    Knob(
        name="quantization",
        type=KnobType.TEXT,
        description="How weights are quantized; without it, as the checkpoint says.",
        flags=(Flag("quantization"),),
        choices=choices(
            "awq", "awq_marlin", "compressed-tensors", "fp8", "gptq", "gptq_marlin", "w8a8_fp8", "w8a8_int8"
        ),
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
        flags=(Flag("speculative-algorithm"),),
        choices=choices("EAGLE", "EAGLE3", "NEXTN", "NGRAM", "STANDALONE"),
        risk=Risk.HIGH,
        alters_outputs=True,
    ),
    Knob(
        name="speculativeTokens",
        type=KnobType.INTEGER,
        description="How many tokens are verified in one step.",
        flags=(Flag("speculative-num-draft-tokens"),),
        minimum=1,
        maximum=128,
        unit="tokens",
    ),
    Knob(
        name="speculativeSteps",
        type=KnobType.INTEGER,
        description="How many steps the draft model takes.",
        flags=(Flag("speculative-num-steps"),),
        minimum=1,
        maximum=64,
        unit="steps",
    ),
)

_PARALLELISM = (
    Knob(
        name="tensorParallelSize",
        type=KnobType.INTEGER,
        description="GPUs that share each layer; the attention heads must divide by it.",
        flags=(Flag("tp-size"),),
        minimum=1,
        maximum=1024,
        unit="GPUs",
        default=always(1),
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="pipelineParallelSize",
        type=KnobType.INTEGER,
        description="Groups of GPUs that hold consecutive layers.",
        flags=(Flag("pp-size"),),
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
        flags=(Flag("dp-size"),),
        minimum=1,
        maximum=1024,
        unit="copies",
        default=always(1),
        risk=Risk.MEDIUM,
    ),
    Knob(
        name="expertParallelSize",
        type=KnobType.INTEGER,
        description="GPUs over which a mixture-of-experts model spreads its experts.",
        flags=(Flag("ep-size"),),
        minimum=1,
        maximum=1024,
        unit="GPUs",
        default=always(1),
        risk=Risk.MEDIUM,
    ),
)

SGLANG: Final = EngineCatalogue(
    name="sglang",
    title="SGLang",
    since=(0, 5, 3),
    until=(0, 5, 24),
    all_knobs=_BATCHING + _KV_CACHE + _MEMORY + _WEIGHTS + _PARALLELISM,
)

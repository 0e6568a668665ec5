"""`engine.config`: the neutral knobs with their types.

The bounds are wide on purpose: they refuse what no engine can mean (a negative number, a string of a page), not what
one engine version refuses on one machine. That is found by the catalogue, or by the canary that does not start.
"""

from __future__ import annotations

from typing import Annotated, cast, get_args, get_origin

from pydantic import Field, StringConstraints

from trimtab.api.v1alpha1.base import ApiModel, Count, Flag, Percent, Positive
from trimtab.model.config import EngineConfig, KnobValue

Choice = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9./][A-Za-z0-9._/:-]*$")]
Parallel = Annotated[int, Field(strict=True, ge=1, le=1024)]
Level = Annotated[int, Field(strict=True, ge=0, le=3)]


class EngineKnobs(ApiModel):
    """The engine's configuration in neutral knobs. A knob that is absent has the engine's own default."""

    max_num_seqs: Positive | None = None
    """The largest number of sequences in one step of the engine."""
    max_num_active_seqs: Positive | None = None
    """The largest number of sequences that run at once, at most maxNumSeqs."""
    max_num_batched_tokens: Positive | None = None
    """The largest number of tokens in one step of the engine."""
    max_num_scheduled_tokens: Positive | None = None
    """The largest number of tokens that one step schedules, at most maxNumBatchedTokens."""
    max_num_queued_requests: Count | None = None
    """How many requests the engine holds before it refuses further ones."""
    max_wait_milliseconds: Positive | None = None
    """The expected wait in the queue above which a further request is refused."""
    max_prefill_tokens: Positive | None = None
    """The largest number of prompt tokens in one batch of prompts."""
    max_model_len: Positive | None = None
    """The longest context, prompt and output together, in tokens."""
    long_prefill_token_threshold: Count | None = None
    """The largest part of one long prompt in a step while others wait, in tokens; 0 is without bound."""
    enable_chunked_prefill: Flag | None = None
    """Whether prompts are computed in parts, between the steps of running requests."""
    enable_prefix_caching: Flag | None = None
    """Whether the KV cache of equal beginnings of prompts is used again."""
    enable_mixed_chunk: Flag | None = None
    """Whether parts of prompts and running requests share a step."""
    stream_interval: Positive | None = None
    """How many tokens are gathered before they are sent to a streaming client."""
    performance_mode: Choice | None = None
    """A bundle of the engine's own defaults, such as throughput."""
    async_scheduling: Flag | None = None
    """Whether the next step is scheduled while the current one runs."""
    scheduling_policy: Choice | None = None
    """The order in which waiting requests are taken, such as fcfs or priority."""
    gpu_memory_utilization_percent: Percent | None = None
    """The share of the device's memory that the engine may take, in percent."""
    kv_cache_memory_mebibytes: Positive | None = None
    """The size of the KV cache in MiB."""
    kv_cache_dtype: Choice | None = None
    """The type of the KV cache's numbers, such as auto or fp8."""
    kv_watermark_percent: Percent | None = None
    """The share of the KV cache that stays free when a request is admitted, in percent."""
    prefix_eviction_policy: Choice | None = None
    """Which kept beginning of a prompt leaves the KV cache first, such as lru."""
    enable_kv_offload: Flag | None = None
    """Whether parts of the KV cache move to the host's memory."""
    kv_offload_gibibytes: Count | None = None
    """How much of the KV cache may be kept in the host's memory, in GiB."""
    cpu_offload_gibibytes: Count | None = None
    """How much of the weights is kept in the host's memory, in GiB."""
    block_size: Positive | None = None
    """Tokens in one block of the KV cache."""
    quantization: Choice | None = None
    """The method by which the weights are quantized, such as fp8, awq or gptq."""
    dtype: Choice | None = None
    """The type of the weights' and activations' numbers, such as auto, bfloat16 or float16."""
    tensor_parallel_size: Parallel | None = None
    """How many devices share each layer."""
    pipeline_parallel_size: Parallel | None = None
    """How many stages the layers are divided into."""
    data_parallel_size: Parallel | None = None
    """How many copies of the model one pod runs."""
    expert_parallel_size: Parallel | None = None
    """Over how many devices the experts of a mixture-of-experts model are spread."""
    enable_expert_parallel: Flag | None = None
    """Whether a mixture-of-experts model spreads its experts over the devices."""
    speculative_method: Choice | None = None
    """How tokens are guessed ahead, such as ngram."""
    speculative_tokens: Positive | None = None
    """How many tokens are guessed ahead."""
    speculative_steps: Positive | None = None
    """How many steps the draft model takes."""
    speculative_model: Reference | None = None
    """The draft model: a path in the container, or its name on the Hugging Face hub."""
    speculative_lookup_minimum: Positive | None = None
    """The shortest run of tokens that is looked up in the prompt."""
    speculative_lookup_maximum: Positive | None = None
    """The longest run of tokens that is looked up in the prompt."""
    enforce_eager: Flag | None = None
    """Whether the model runs without compilation and without captured graphs."""
    optimization_level: Level | None = None
    """How much is compiled at start: 0 is nothing, 3 is everything."""

    def to_config(self) -> EngineConfig:
        """The knobs that are set, as the pure rooms know them."""
        values: dict[str, KnobValue] = self.model_dump(by_alias=True, exclude_none=True)
        return EngineConfig(values)


KNOBS: tuple[str, ...] = tuple(sorted(str(info.alias) for info in EngineKnobs.model_fields.values()))


def _kind(annotation: object) -> type:
    """`Annotated[int, ...] | None` -> int."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)] or [annotation]
    while get_origin(kinds[0]) is Annotated:
        kinds = [get_args(kinds[0])[0]]
    if kinds[0] not in (bool, int, str):
        raise TypeError(f"a knob is a bool, an int or a str, not {annotation}")
    return cast(type, kinds[0])


# Knob -> bool, int or str.
KNOB_KINDS: dict[str, type] = {str(info.alias): _kind(info.annotation) for info in EngineKnobs.model_fields.values()}
NUMBER_KNOBS: tuple[str, ...] = tuple(knob for knob in KNOBS if KNOB_KINDS[knob] is int)

"""What a prediction is asked for: one serving configuration and one kind of traffic."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.catalogue.gpus import Device
from trimtab.catalogue.models.shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one replica is spread over GPUs.

    `tensor` and `pipeline` as everywhere. `data` is attention data parallelism: that many groups of `tensor` GPUs hold
    the attention weights and a share of the requests each. `expert` is over how many GPUs the experts are spread whole;
    the rest of the `tensor * data` GPUs splits each expert.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def expert_tensor(self) -> int:
        """Over how many GPUs each expert is split."""
        return max(1, self.tensor * self.data // self.expert)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPoint:
    """One replica of an engine. Formats are `bf16`, `fp8`, `fp8_block`, `nvfp4`, `mxfp4`, `int8_wo`, `int4_wo`.

    `weights` is the format of the matrices in the layers, `experts` that of the experts' matrices (as `weights` when
    empty), `kv_cache` that of the cache: `bf16` or `fp8`. Limits of None are the engine's own defaults.
    """

    model: ModelShape
    device: Device
    engine: str  # vllm, sglang, trtllm
    version: str = ""
    layout: Layout = Layout()
    weights: str = "bf16"
    experts: str = ""
    kv_cache: str = "bf16"
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    memory_utilization: float | None = None
    kv_cache_bytes: int | None = None  # where a fixed size is asked for, per GPU
    kv_block_tokens: int | None = None  # tokens of one block of the cache
    chunked_prefill: bool = True
    prefix_caching: bool = True
    cuda_graphs: bool = True
    draft_tokens: int = 0  # of speculative decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests to one replica: closed loop with `concurrency` clients, or open loop with `rate` requests per second.

    Exactly one of the two is set. `burstiness` is the squared coefficient of variation of the times between arrivals
    (1: Poisson). `prefix_share` is the part of the prompt tokens that is found in the prefix cache, `accept` the share
    of draft tokens that is accepted. Lengths in tokens.
    """

    prompt: float
    output: float
    concurrency: float | None = None
    rate: float | None = None
    burstiness: float = 1.0
    prefix_share: float = 0.0
    accept: float = 0.0
    prompt_variation: float = 0.0  # coefficients of variation of the lengths
    output_variation: float = 0.0

"""The metric families of vLLM 0.32: names, labels, help texts and buckets as its own `/metrics` has them.

Sources: `vllm/v1/metrics/loggers.py` (PrometheusStatLogger) and `vllm/v1/metrics/buckets.py`; the HTTP families are
those of prometheus-fastapi-instrumentator, which the engine's server mounts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    Summary,
    generate_latest,
)

from .config import EngineConfig
from .scheduler import Finish, Outcome, Request, Scheduler, Step

LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
INTER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
ITERATION_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
PARAMS_N = (1, 2, 5, 10, 20)
PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)
HTTP_HIGH_RESOLUTION = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60),
)
HTTP_LOW_RESOLUTION = (0.1, 0.5, 1)

# The engine prints its whole CacheConfig; these are the fields that the simulation does not use, and the defaults.
_CACHE_INFO_DEFAULTS: Mapping[str, object] = {
    "_block_size_resolved": True,
    "cache_hit_alignment_tokens": None,
    "enable_mamba_shared_prefix_checkpoint": False,
    "engine": "0",
    "hash_block_size": None,
    "is_attention_free": False,
    "kv_cache_dtype_skip_layers": [],
    "kv_cache_layout": None,
    "kv_cache_memory_bytes": None,
    "kv_offloading_backend": "native",
    "kv_offloading_size": None,
    "kv_sharing_fast_prefill": False,
    "mamba_block_size": None,
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": None,
    "mamba_ssm_cache_dtype": "float32",
    "num_cpu_blocks": None,
    "num_gpu_blocks_override": None,
    "prefix_cache_retention_interval": 0,
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": None,
    "replayssm_buffer_len": 16,
    "skip_page_size_padded": None,
    "sliding_window": None,
    "swa_bounded_replay": True,
    "use_kda_recoverssm": False,
    "use_replayssm": False,
}

_LABELS = ("model_name", "engine")


def one_two_five(largest: int) -> list[float]:
    """1, 2, 5, 10, 20, 50 ... up to `largest`."""
    edges: list[float] = []
    power = 1
    while True:
        for mantissa in (1, 2, 5):
            if mantissa * power > largest:
                return edges
            edges.append(float(mantissa * power))
        power *= 10


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The times of a finished request in seconds, as the engine defines them."""

    e2e: float
    queue: float
    prefill: float
    decode: float
    inference: float
    per_output_token: float

    @classmethod
    def of(cls, request: Request) -> Finished:
        admitted = request.admitted if request.admitted is not None else request.arrived
        first = request.first_token if request.first_token is not None else admitted
        last = request.last_token if request.last_token is not None else first
        decode = last - first
        return cls(
            e2e=max(0.0, last - request.arrived),
            queue=max(0.0, admitted - request.arrived),
            prefill=max(0.0, first - admitted),
            decode=decode,
            inference=max(0.0, last - admitted),
            per_output_token=decode / (request.generated - 1) if request.generated > 1 else 0.0,
        )


class EngineMetrics:
    """One registry with everything that the emulated server exposes."""

    def __init__(self, config: EngineConfig) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._values = (config.served_model_names[0], "0")
        self._config = config
        self._scheduler_families()
        self._token_families()
        self._request_families()
        self._http_families()
        if config.log_stats:
            self._cache_info()

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, _LABELS, registry=self.registry).labels(*self._values)

    def _counter(self, name: str, documentation: str) -> Counter:
        return Counter(name, documentation, _LABELS, registry=self.registry).labels(*self._values)

    def _histogram(self, name: str, documentation: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, documentation, _LABELS, buckets=buckets, registry=self.registry).labels(*self._values)

    def _labelled(self, name: str, documentation: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        family = Counter(name, documentation, (*_LABELS, label), registry=self.registry)
        return {value: family.labels(*self._values, value) for value in values}

    def _scheduler_families(self) -> None:
        for name, what in (
            ("flops", "floating point operations per GPU"),
            ("read_bytes", "bytes read from memory per GPU"),
            ("write_bytes", "bytes written to memory per GPU"),
        ):
            # The engine leaves these at 0 unless --enable-mfu-metrics is given; the emulator always does.
            self._counter(
                f"vllm:estimated_{name}_per_gpu",
                f"Estimated number of {what} (for Model Flops Utilization calculations).",
            )
        self.running = self._gauge("vllm:num_requests_running", "Number of requests in model execution batches.")
        self.waiting = self._gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.")
        by_reason = Gauge(
            "vllm:num_requests_waiting_by_reason",
            "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; "
            "'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). "
            "Sum of all reasons equals vllm:num_requests_waiting.",
            (*_LABELS, "reason"),
            registry=self.registry,
        )
        self.waiting_for_capacity = by_reason.labels(*self._values, "capacity")
        by_reason.labels(*self._values, "deferred").set(0)
        sleep_labels = (*_LABELS, "sleep_state")
        sleep = Gauge(
            "vllm:engine_sleep_state",
            "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
            "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
            sleep_labels,
            registry=self.registry,
        )
        for state, value in (("awake", 1), ("weights_offloaded", 0), ("discard_all", 0)):
            sleep.labels(*self._values, state).set(value)
        self.kv_usage = self._gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        self.prefix_queries = self._counter(
            "vllm:prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens."
        )
        self.prefix_hits = self._counter(
            "vllm:prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."
        )
        for word, unit in (("queries", "queried"), ("hits", "cached")):
            self._counter(
                f"vllm:external_prefix_cache_{word}",
                f"External prefix cache {word} from KV connector cross-instance cache sharing, "
                f"in terms of number of {unit} tokens.",
            )
        self._counter("vllm:mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items.")
        self._counter("vllm:mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items.")
        self.preemptions = self._counter("vllm:num_preemptions", "Cumulative number of preemption from the engine.")

    def _token_families(self) -> None:
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "Number of prefill tokens processed.")
        self.prompt_by_source = self._labelled(
            "vllm:prompt_tokens_by_source",
            "Number of prompt tokens by source.",
            "source",
            ("local_compute", "local_cache_hit", "external_kv_transfer"),
        )
        self.prompt_cached = self._counter(
            "vllm:prompt_tokens_cached", "Number of cached prompt tokens (local + external)."
        )
        self.cached_by_source = self._labelled(
            "vllm:prompt_tokens_cached_by_source",
            "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to "
            "DRAM), disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; "
            "sums to vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
            "source",
            ("device", "host", "disk", "p2p", "external_unspecified"),
        )
        self.generation_tokens = self._counter("vllm:generation_tokens", "Number of generation tokens processed.")
        self.success = self._labelled(
            "vllm:request_success",
            "Count of successfully processed requests.",
            "finished_reason",
            [str(reason) for reason in Finish],
        )
        rejections = Counter(
            "vllm:admission_rejections",
            "Number of admission attempts rejected by a queue limit, by reason.",
            ("model_name", "reason"),
            registry=self.registry,
        )
        self.rejections = {
            reason: rejections.labels(self._values[0], reason)
            for reason in ("max_num_queued_reqs", "max_num_queued_tokens")
        }

    def _request_families(self) -> None:
        own = self._config.histogram_buckets
        tokens = own.get("request_tokens", one_two_five(self._config.limits.max_model_len))
        latency = own.get("request_latency", LATENCY)
        between = own.get("inter_token_latency", INTER_TOKEN)
        make = self._histogram
        self.size_prompt = make("vllm:request_prompt_tokens", "Number of prefill tokens processed.", tokens)
        self.size_output = make("vllm:request_generation_tokens", "Number of generation tokens processed.", tokens)
        self.iteration = make(
            "vllm:iteration_tokens_total",
            "Histogram of number of tokens per engine_step.",
            own.get("iteration_tokens", ITERATION_TOKENS),
        )
        self.max_generation = make(
            "vllm:request_max_num_generation_tokens",
            "Histogram of maximum number of requested generation tokens.",
            tokens,
        )
        self.params_n = make(
            "vllm:request_params_n", "Histogram of the n request parameter.", own.get("request_params_n", PARAMS_N)
        )
        self.params_max_tokens = make(
            "vllm:request_params_max_tokens", "Histogram of the max_tokens request parameter.", tokens
        )
        self.ttft = make(
            "vllm:time_to_first_token_seconds",
            "Histogram of time to first token in seconds.",
            own.get("time_to_first_token", FIRST_TOKEN),
        )
        self.itl = make("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", between)
        self.tpot = make(
            "vllm:request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            between,
        )
        self.e2e = make("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", latency)
        self.queue = make(
            "vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", latency
        )
        self.inference = make(
            "vllm:request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", latency
        )
        self.prefill = make(
            "vllm:request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", latency
        )
        self.decode = make(
            "vllm:request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", latency
        )
        self.request_preemptions = make(
            "vllm:request_num_preemptions",
            "Histogram of the number of times a request was preempted.",
            own.get("request_num_preemptions", PREEMPTIONS),
        )
        self.kv_computed = make(
            "vllm:request_prefill_kv_computed_tokens",
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            tokens,
        )

    def _http_families(self) -> None:
        self.http_requests = Counter(
            "http_requests",
            "Total number of requests by method, status and handler.",
            ("method", "status", "handler"),
            registry=self.registry,
        )
        self.http_request_size = Summary(
            "http_request_size_bytes",
            "Content length of incoming requests by handler. "
            "Only value of header is respected. Otherwise ignored. No percentile calculated.",
            ("handler",),
            registry=self.registry,
        )
        self.http_response_size = Summary(
            "http_response_size_bytes",
            "Content length of outgoing responses by handler. "
            "Only value of header is respected. Otherwise ignored. No percentile calculated.",
            ("handler",),
            registry=self.registry,
        )
        self.http_high_resolution = Histogram(
            "http_request_duration_highr_seconds",
            "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations.",
            buckets=HTTP_HIGH_RESOLUTION,
            registry=self.registry,
        )
        self.http_duration = Histogram(
            "http_request_duration_seconds",
            "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important.",
            ("method", "handler"),
            buckets=HTTP_LOW_RESOLUTION,
            registry=self.registry,
        )

    def _cache_info(self) -> None:
        labels = cache_info_labels(self._config)
        info = Gauge(
            "vllm:cache_config_info",
            "Information of the LLMEngine CacheConfig",
            tuple(labels),
            registry=self.registry,
        )
        info.labels(**labels).set(1)

    def observe_step(self, step: Step, outcome: Outcome, scheduler: Scheduler) -> None:
        """Records what one finished step did."""
        self.observe_queue(scheduler)
        if step.prefix_queries:
            self.prefix_queries.inc(step.prefix_queries)
            self.prefix_hits.inc(step.prefix_hits)
            self.cached_by_source["device"].inc(step.prefix_hits)
        if step.preempted:
            self.preemptions.inc(step.preempted)
        computed = 0
        for request in outcome.first_tokens:
            computed += request.prompt_tokens - request.cached
            self.prompt_tokens.inc(request.prompt_tokens)
            self.prompt_by_source["local_compute"].inc(request.prompt_tokens - request.cached)
            if request.cached:
                self.prompt_by_source["local_cache_hit"].inc(request.cached)
                self.prompt_cached.inc(request.cached)
            self.ttft.observe(max(0.0, (request.first_token or request.arrived) - request.arrived))
        self.generation_tokens.inc(len(outcome.emitted))
        if outcome.emitted:
            self.iteration.observe(computed + len(outcome.emitted))
        for gap in outcome.inter_token_seconds:
            self.itl.observe(gap)
        for request in outcome.finished:
            self.observe_finished(request)

    def observe_queue(self, scheduler: Scheduler) -> None:
        """Sets the gauges of the queue and the cache."""
        self.running.set(len(scheduler.running))
        self.waiting.set(scheduler.waiting)
        self.waiting_for_capacity.set(scheduler.waiting)
        self.kv_usage.set(scheduler.kv.usage)

    def observe_finished(self, request: Request) -> None:
        """Records a request that ended, however it did."""
        times = Finished.of(request)
        self.success[str(request.finished or Finish.ABORT)].inc()
        self.e2e.observe(times.e2e)
        self.queue.observe(times.queue)
        self.prefill.observe(times.prefill)
        self.decode.observe(times.decode)
        self.inference.observe(times.inference)
        self.tpot.observe(times.per_output_token)
        self.request_preemptions.observe(request.preemptions)
        self.kv_computed.observe(request.prompt_tokens - request.cached)
        self.size_prompt.observe(request.prompt_tokens)
        self.size_output.observe(request.generated)
        group = request.siblings or (request,)
        if not group[0].reported and all(sibling.finished is not None for sibling in group):
            group[0].reported = True
            self.max_generation.observe(max(sibling.generated for sibling in group))
            self.params_n.observe(len(group))
        if request.max_tokens is not None:
            self.params_max_tokens.observe(request.max_tokens)

    def observe_http(self, *, method: str, handler: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Records one answered HTTP request; the status is grouped, as by the engine."""
        self.http_requests.labels(method, f"{status // 100}xx", handler).inc()
        self.http_request_size.labels(handler).observe(received)
        self.http_response_size.labels(handler).observe(sent)
        self.http_high_resolution.observe(seconds)
        self.http_duration.labels(method, handler).observe(seconds)


def cache_info_labels(config: EngineConfig) -> Mapping[str, str]:
    """The labels of `vllm:cache_config_info`: the engine's cache configuration, each value as text."""
    limits = config.limits
    tokens = limits.kv_blocks * limits.block_size
    given = config.flags
    values: dict[str, object] = {
        **_CACHE_INFO_DEFAULTS,
        "block_size": limits.block_size,
        "cache_dtype": config.kv_cache_dtype,
        "effective_attention_block_size": limits.block_size,
        "enable_prefix_caching": limits.prefix_caching,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "kv_cache_max_concurrency": tokens / limits.max_model_len,
        "kv_cache_size_tokens": tokens,
        "num_gpu_blocks": limits.kv_blocks,
        "user_specified_block_size": "block_size" in given,
    }
    for name in ("kv_cache_memory_bytes", "kv_offloading_backend", "kv_offloading_size", "num_gpu_blocks_override"):
        values[name] = given.get(name, values[name])
    return {name: str(value) for name, value in values.items()}

"""The metrics of our own engines under vLLM's names (0.32), so that whoever reads vLLM reads this engine, too."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from trimtab_engine.speculation.acceptance import Guessed

_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_E2E = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
_LABELS = ("model_name", "engine")


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """Accepted over proposed tokens is the acceptance rate."""

    drafts: Counter
    tokens: Counter
    accepted: Counter

    def add(self, new: Guessed) -> None:
        self.drafts.inc(new.drafts)
        self.tokens.inc(new.tokens)
        self.accepted.inc(new.accepted)


@dataclass(frozen=True, kw_only=True)
class PrefixCache:
    """Tokens; hits over queries is the hit rate."""

    queries: Counter
    hits: Counter


class EngineMetrics:
    """Times in seconds."""

    def __init__(self, model: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._values = (model, "0")
        self._registry = registry

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"vllm:{name}", text, _LABELS, registry=registry).labels(*self._values)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"vllm:{name}", text, _LABELS, registry=registry, buckets=buckets).labels(*self._values)

        self.running = gauge("num_requests_running", "Requests that run.")
        self.waiting = gauge("num_requests_waiting", "Requests that wait.")
        self.kv_usage = gauge("kv_cache_usage_perc", "Share of the KV cache that running requests hold, 0 to 1.")
        self.batch = Gauge(
            "trimtab_engine_batch_requests", "Requests that may run at once now.", _LABELS, registry=registry
        ).labels(*self._values)
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens generated.")
        self.ttft = histogram("time_to_first_token_seconds", "Until the first token.", _TTFT)
        self.itl = histogram("inter_token_latency_seconds", "Between two tokens.", _ITL)
        self.tpot = histogram("request_time_per_output_token_seconds", "Mean of a request after its first token.", _ITL)
        self.e2e = histogram("e2e_request_latency_seconds", "Until the last token.", _E2E)
        self.queue = histogram("request_queue_time_seconds", "Until the request runs.", _E2E)
        self.request_prompt = histogram("request_prompt_tokens", "Tokens of a prompt.", _TOKENS)
        self.request_generation = histogram("request_generation_tokens", "Tokens generated for a request.", _TOKENS)
        finished = (*_LABELS, "finished_reason")
        self._success = Counter("vllm:request_success", "Requests that ended.", finished, registry=registry)
        for reason in ("stop", "length", "abort", "error"):
            self._success.labels(*self._values, reason)
        info = (*_LABELS, "kv_cache_size_tokens", "block_size", "num_gpu_blocks")
        self._cache = Gauge("vllm:cache_config_info", "The KV cache.", info, registry=registry)

    def speculation(self) -> Speculation:
        """The counters of speculative decoding; as vLLM's, they are there only where it is on."""

        return Speculation(
            drafts=self._counter("spec_decode_num_drafts", "Proposals of speculative decoding."),
            tokens=self._counter("spec_decode_num_draft_tokens", "Tokens proposed."),
            accepted=self._counter("spec_decode_num_accepted_tokens", "Tokens proposed that the model said, too."),
        )

    def prefix_cache(self) -> PrefixCache:
        """The counters of reuse; they are there only where it is on."""

        return PrefixCache(
            queries=self._counter(
                "prefix_cache_queries", "Tokens of prompts that were looked for in the prefix cache."
            ),
            hits=self._counter("prefix_cache_hits", "Tokens of them whose keys and values were there."),
        )

    def cache(self, *, tokens: int, page: int) -> None:
        self._cache.labels(*self._values, str(tokens), str(page), str(tokens // page)).set(1)

    def ended(self, reason: str) -> None:
        self._success.labels(*self._values, reason).inc()

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, _LABELS, registry=self._registry).labels(*self._values)

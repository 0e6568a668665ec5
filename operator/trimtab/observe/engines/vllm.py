"""vLLM. Names of 0.32 read from a running server; older names from `vllm/v1/metrics/loggers.py` and its deprecations.

Things to know (measured against 0.32):

- The first bucket of queue time and end-to-end latency ends at 0.3 s, so a percentile inside it is an artefact of
  interpolation: an empty queue shows a p95 of 0.285 s. The mean is exact.
- Under speculative decoding `inter_token_latency_seconds` counts steps, not tokens, so the time per output token of the
  requests is read instead.
- A refused streaming request may be answered with status 200 and an error in the stream, so refusals are counted by
  `admission_rejections_total` and not by status alone.
- `iteration_tokens_total` is a histogram in spite of its name, and `request_success_total` counts aborts and errors
  too.
"""

from __future__ import annotations

from trimtab.observe.engines.spec import (
    CounterRole,
    CounterSpec,
    Engine,
    GaugeRole,
    GaugeSpec,
    HistogramRole,
    InfoSpec,
    Name,
)
from trimtab.observe.promql import Matcher

# Deprecated names were kept beside the new ones for some releases; while both may be there, the newer one is read.
_ITL = (
    Name("vllm:inter_token_latency_seconds", since=(0, 10, 2)),
    Name("vllm:time_per_output_token_seconds", until=(0, 14, 0)),
)
_TPOT = (Name("vllm:request_time_per_output_token_seconds", since=(0, 10, 2)),)
_KV_USAGE = (
    Name("vllm:kv_cache_usage_perc", since=(0, 10, 2)),
    Name("vllm:gpu_cache_usage_perc", until=(0, 13, 0)),
)
_PREFIX_QUERIES = (
    Name("vllm:prefix_cache_queries_total", since=(0, 10, 2)),
    Name("vllm:gpu_prefix_cache_queries_total", until=(0, 13, 0)),
)
_PREFIX_HITS = (
    Name("vllm:prefix_cache_hits_total", since=(0, 10, 2)),
    Name("vllm:gpu_prefix_cache_hits_total", until=(0, 13, 0)),
)

HISTOGRAMS = {
    HistogramRole.TTFT: (Name("vllm:time_to_first_token_seconds"),),
    HistogramRole.ITL: _ITL,
    HistogramRole.TPOT: _TPOT,
    HistogramRole.E2E: (Name("vllm:e2e_request_latency_seconds"),),
    HistogramRole.QUEUE_TIME: (Name("vllm:request_queue_time_seconds"),),
    HistogramRole.PROMPT_TOKENS: (Name("vllm:request_prompt_tokens"),),
    HistogramRole.OUTPUT_TOKENS: (Name("vllm:request_generation_tokens"),),
}
COUNTERS = {
    CounterRole.FINISHED: CounterSpec((Name("vllm:request_success_total"),)),
    CounterRole.FAILED: CounterSpec(
        (Name("vllm:request_success_total"),), matchers=(Matcher("finished_reason", "=", "error"),)
    ),
    CounterRole.REFUSED: CounterSpec((Name("vllm:admission_rejections_total"),)),
    CounterRole.SERVER_ERRORS: CounterSpec(
        (Name("http_requests_total"),),
        matchers=(Matcher("handler", "=~", "/v1/.*"), Matcher("status", "=~", "5..")),
    ),
    CounterRole.PROMPT_TOKENS: CounterSpec((Name("vllm:prompt_tokens_total"),)),
    CounterRole.OUTPUT_TOKENS: CounterSpec((Name("vllm:generation_tokens_total"),)),
    CounterRole.PREEMPTIONS: CounterSpec((Name("vllm:num_preemptions_total"),)),
    CounterRole.PREFIX_QUERIES: CounterSpec(_PREFIX_QUERIES),
    CounterRole.PREFIX_HITS: CounterSpec(_PREFIX_HITS),
    CounterRole.SPECULATIVE_STEPS: CounterSpec((Name("vllm:spec_decode_num_drafts_total"),)),
}
# One series for each data-parallel engine of the pod: requests add up, the fullest cache counts.
GAUGES = {
    GaugeRole.RUNNING: GaugeSpec((Name("vllm:num_requests_running"),)),
    GaugeRole.WAITING: GaugeSpec((Name("vllm:num_requests_waiting"),)),
    GaugeRole.KV_USAGE: GaugeSpec(_KV_USAGE, over="max_over_time", combine="max"),
}
CAPACITY = InfoSpec(
    (Name("vllm:cache_config_info"),), whole="kv_cache_size_tokens", factors=("num_gpu_blocks", "block_size")
)

ENGINE = Engine(
    name="vllm",
    alive=(Name("vllm:num_requests_running"),),
    histograms=HISTOGRAMS,
    counters=COUNTERS,
    gauges=GAUGES,
    capacity=CAPACITY,
    oldest=(0, 8, 0),
    prefixes=("vllm:",),
)

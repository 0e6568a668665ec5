"""SGLang, started with `--enable-metrics`. Names of 0.5.23, `sglang/srt/observability/metrics_collector.py`.

Every tensor-parallel rank exports the same gauges, so one rank of each data-parallel part counts. Request metrics
appear with the first request. TTFT has no bucket below 100 ms by default. There is no counter of failed requests: a
request that the client gave up is counted as aborted beside one that was refused, so errors are read from the HTTP
answers.
"""

from __future__ import annotations

from trimtab.observe.engines.spec import (
    CounterRole,
    CounterSpec,
    Engine,
    GaugeRole,
    GaugeSpec,
    HistogramRole,
    Name,
)
from trimtab.observe.promql import Matcher

_PARTS = ("dp_rank",)

ENGINE = Engine(
    name="sglang",
    alive=(Name("sglang:num_running_reqs"),),
    histograms={
        HistogramRole.TTFT: (Name("sglang:time_to_first_token_seconds"),),
        HistogramRole.ITL: (
            Name("sglang:inter_token_latency_seconds"),
            Name("sglang:time_per_output_token_seconds", until=(0, 5, 0)),
        ),
        HistogramRole.TPOT: (Name("sglang:request_time_per_output_token_seconds"),),
        HistogramRole.E2E: (Name("sglang:e2e_request_latency_seconds"),),
        HistogramRole.QUEUE_TIME: (Name("sglang:queue_time_seconds"),),
        HistogramRole.PROMPT_TOKENS: (Name("sglang:prompt_tokens_histogram"),),
        HistogramRole.OUTPUT_TOKENS: (Name("sglang:generation_tokens_histogram"),),
    },
    counters={
        # The histogram of latencies counts a request when it ends; num_requests_total counts it when it comes.
        CounterRole.FINISHED: CounterSpec((Name("sglang:e2e_request_latency_seconds_count"),)),
        CounterRole.SERVER_ERRORS: CounterSpec(
            (Name("sglang:http_responses_total"),),
            matchers=(Matcher("endpoint", "=~", "/v1/.*|/generate"), Matcher("status_code", "=~", "5..")),
        ),
        CounterRole.PROMPT_TOKENS: CounterSpec((Name("sglang:prompt_tokens_total"),)),
        CounterRole.OUTPUT_TOKENS: CounterSpec((Name("sglang:generation_tokens_total"),)),
        CounterRole.PREEMPTIONS: CounterSpec((Name("sglang:num_retracted_requests_total"),)),
        CounterRole.PREFIX_QUERIES: CounterSpec((Name("sglang:prompt_tokens_total"),)),
        CounterRole.PREFIX_HITS: CounterSpec((Name("sglang:cached_tokens_total"),)),
    },
    gauges={
        GaugeRole.RUNNING: GaugeSpec((Name("sglang:num_running_reqs"),), keep=_PARTS),
        GaugeRole.WAITING: GaugeSpec((Name("sglang:num_queue_reqs"),), keep=_PARTS),
        GaugeRole.KV_USAGE: GaugeSpec((Name("sglang:token_usage"),), over="max_over_time", combine="max"),
        GaugeRole.KV_CAPACITY: GaugeSpec((Name("sglang:max_total_num_tokens"),), over="max_over_time", keep=_PARTS),
    },
    lazy=True,
    oldest=(0, 4, 0),
    prefixes=("sglang:",),
)

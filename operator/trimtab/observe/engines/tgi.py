"""Text Generation Inference, which is in maintenance mode: read, never tuned. Names from its router and launcher.

It exports no time to first token, no prefix cache and no preemptions; its KV use is the share of the batch's token
budget that is taken. Counters carry no `_total`, and all series appear with their first event.
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

ENGINE = Engine(
    name="tgi",
    alive=(Name("tgi_queue_size"),),
    histograms={
        HistogramRole.ITL: (Name("tgi_request_mean_time_per_token_duration"),),
        HistogramRole.E2E: (Name("tgi_request_duration"),),
        HistogramRole.QUEUE_TIME: (Name("tgi_request_queue_duration"),),
        HistogramRole.PROMPT_TOKENS: (Name("tgi_request_input_length"),),
        HistogramRole.OUTPUT_TOKENS: (Name("tgi_request_generated_tokens"),),
    },
    counters={
        CounterRole.FINISHED: CounterSpec((Name("tgi_request_success"),)),
        # A request of the client's own making (err="validation") is not the server's error.
        CounterRole.REFUSED: CounterSpec(
            (Name("tgi_request_failure"),), matchers=(Matcher("err", "!=", "validation"),)
        ),
        CounterRole.PROMPT_TOKENS: CounterSpec((Name("tgi_request_input_length_sum"),)),
        CounterRole.OUTPUT_TOKENS: CounterSpec((Name("tgi_request_generated_tokens_sum"),)),
    },
    gauges={
        GaugeRole.RUNNING: GaugeSpec((Name("tgi_batch_current_size"),)),
        GaugeRole.WAITING: GaugeSpec((Name("tgi_queue_size"),)),
        GaugeRole.KV_USAGE: GaugeSpec(
            (Name("tgi_batch_current_max_tokens"),),
            over="max_over_time",
            combine="max",
            divided_by=(Name("tgi_batch_max_total_tokens"),),
        ),
        GaugeRole.KV_CAPACITY: GaugeSpec((Name("tgi_batch_max_total_tokens"),), over="max_over_time"),
    },
    lazy=True,
    prefixes=("tgi_",),
)

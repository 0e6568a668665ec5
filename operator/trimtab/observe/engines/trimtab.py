"""Trimtab's own serving image exports vLLM's names, whichever engine it runs, so it is read as vLLM 0.32 is."""

from __future__ import annotations

from trimtab.observe.engines import vllm
from trimtab.observe.engines.spec import Engine

ENGINE = Engine(
    name="trimtab",
    alive=vllm.ENGINE.alive,
    histograms=vllm.HISTOGRAMS,
    counters=vllm.COUNTERS,
    gauges=vllm.GAUGES,
    capacity=vllm.CAPACITY,
)

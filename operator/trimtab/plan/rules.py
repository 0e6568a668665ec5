"""The rules that effects are estimated from until a fitted model replaces them. Each names where it comes from.

Measured here: vLLM 0.32 on one CPU thread, a Llama of 76 M parameters in bfloat16, closed loop of 32 clients with 64
tokens in and 64 out unless stated otherwise. Throughput repeated within 5 to 13 %.

| sequences at once        | 1   | 2       | 4       | 8       | 16  | 32      |
|--------------------------|-----|---------|---------|---------|-----|---------|
| output tokens per second | 129 | 208-237 | 347-357 | 508-545 | 700 | 776-807 |
| inter-token latency, ms  | 7   |         | 10      | 11      | 16  | 26      |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trimtab.model.plan import Effect, Metric

MEASURED: Final = "measured with vLLM 0.32 on a CPU"

# Inter-token latency grows by this share of the single-sequence latency with each further sequence. On a CPU: the
# table above (7 ms at 1, 26 ms at 32). On a GPU a decoding step reads all weights once whatever the batch, so until the
# matrix units are full it grows only with the KV cache that is read (roofline: Williams et al., 2009).
CPU_SLOPE: Final = 0.085
GPU_SLOPE: Final = 0.01

# A predicted tail may use this part of a target, because the prediction is an estimate.
HEADROOM: Final = 0.9
# The KV cache is filled to this part at most by what is planned to run.
KV_FILL: Final = 0.9
# More sequences at once than run or wait now, so that a burst finds room.
BURST: Final = 1.25
# A doubling of the batch that gives less throughput than this is not worth its latency.
LEAST_DOUBLING_GAIN: Final = 1.05


@dataclass(frozen=True, slots=True)
class BatchModel:
    """One engine, from what it does now: `running` sequences at `itl` seconds per token.

    A request costs the engine its prefill, then its share of `output` decoding steps; a step with b sequences takes
    itl(1) * (1 + slope * (b - 1)). With the table's figures this gives 135, 240, 389, 565, 727 and 842 tokens per
    second for 1 to 32 sequences, at most 12 % above what was measured.
    """

    slope: float
    running: float
    itl: float
    output: float
    prefill: float

    def itl_at(self, batch: float) -> float:
        """Mean inter-token latency in seconds with `batch` sequences."""
        return self.itl * self._growth(batch) / self._growth(self.running)

    def seconds_per_request(self, batch: float) -> float:
        """The engine's time per request with `batch` sequences at once."""
        return self.prefill + self.output * self.itl_at(batch) / max(1.0, batch)

    def throughput_ratio(self, batch: float) -> float:
        """Throughput with `batch` sequences over that with `running`."""
        return self.seconds_per_request(max(1.0, self.running)) / self.seconds_per_request(batch)

    def _growth(self, batch: float) -> float:
        return 1.0 + self.slope * (max(1.0, batch) - 1.0)


def effect(metric: Metric, ratio: float, *, spread: tuple[float, float], basis: str) -> Effect:
    """An effect whose interval reaches from the ratio to the power spread[0], nearer to 1, to that of spread[1]."""
    ratio = max(0.001, ratio)
    low, high = sorted((ratio ** spread[0], ratio ** spread[1]))
    return Effect(metric, round(ratio, 3), round(min(low, ratio), 3), round(max(high, ratio), 3), basis)


def stated(metric: Metric, ratio: float, low: float, high: float, basis: str) -> Effect:
    """An effect with an interval of its own."""
    return Effect(metric, ratio, low, high, basis)


def gain(effect_: Effect) -> float:
    """How much better, as a share: 0.25 is 25 % more throughput, or a latency of 1 / 1.25."""
    better_when_larger = effect_.metric in (Metric.THROUGHPUT, Metric.KV_CAPACITY)
    return effect_.ratio - 1.0 if better_when_larger else 1.0 / max(1e-6, effect_.ratio) - 1.0


def power_of_two_at_least(value: float) -> int:
    power = 1
    while power < value:
        power *= 2
    return power


def power_of_two_at_most(value: float) -> int:
    power = 1
    while power * 2 <= value:
        power *= 2
    return power

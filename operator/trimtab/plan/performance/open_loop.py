"""Requests that arrive at a rate, whether or not earlier ones are answered.

Little's law gives how many run: rate times the time that each stays, and that time depends on how many run. What a
request waits for is the sum of two queues. Prefills go through one server per attention group: Kingman's bound for
GI/G/1 (1961). Admission, where limits or the KV cache hold requests back, is a queue with as many servers as run at
most: the approximation of Sakasegawa (1977) in the form of Allen and Cunneen for GI/G/m (Allen, 1990).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trimtab.plan.performance.closed_loop import Loop, closed_loop
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.step import Steps

_BISECTIONS: Final = 9
_FULL: Final = 0.999  # a load above this part of what can be served has no steady state worth a figure


@dataclass(frozen=True, slots=True)
class Open:
    """`loop` at the load that arises; `most` is the rate per second that can be served, `load` the part in use."""

    loop: Loop
    most: Floats
    load: Floats
    saturated: NDArray[np.bool_]


def open_loop(steps: Steps, rate: Floats, admitted: Floats) -> Open:
    """`rate` in requests per second. Saturated points have infinite waiting times."""
    batch = steps.batch
    none = np.zeros_like(rate)
    full = closed_loop(steps, admitted, admitted, none)
    most = 1e3 * admitted / full.cycle
    load = rate / most
    saturated = load >= _FULL
    own_rate = rate / batch.each("data")
    prefill_load = np.minimum(own_rate * steps.prefill / batch.each("pipeline") / 1e3, 0.99)
    spread = (batch.burstiness + _service_variation(steps)) / 2.0
    before_prefill = spread * steps.prefill * prefill_load / (1.0 - prefill_load)
    low, high = np.log(np.minimum(1e-2, admitted / 2.0)), np.log(admitted)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        clients = np.exp(middle)
        cycle = closed_loop(steps, clients, admitted, before_prefill).cycle
        short = 1e3 * clients / cycle < rate
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    loop = closed_loop(steps, np.exp((low + high) / 2.0), admitted, before_prefill)
    waiting = spread * _servers_wait(np.minimum(load, _FULL), admitted) * full.cycle
    loop = replace(loop, waiting=np.where(saturated, np.inf, waiting))
    return Open(loop=loop, most=most, load=load, saturated=saturated)


def _service_variation(steps: Steps) -> Floats:
    """Squared coefficient of variation of a request's time, which its output length rules."""
    return np.square(steps.batch.output_variation)


def _servers_wait(load: Floats, servers: Floats) -> Floats:
    """Mean wait over service time in M/M/m (Sakasegawa, 1977)."""
    return np.asarray(load ** (np.sqrt(2.0 * (servers + 1.0)) - 1.0) / (servers * (1.0 - load)))

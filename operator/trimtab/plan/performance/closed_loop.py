"""Steady state of continuous batching with a fixed number of clients, each of which asks again when it is answered.

Of the running requests each is prefilled once per cycle, while the others wait for that step. With tau the time to the
first token, O output tokens and x the time per output token, a cycle takes tau + O x, so

    x = t(b) + P x / (tau + O x),     P = interference * (B - 1) * prefill,     b = B O x / (tau + O x)

where t(b) is a decode step of the b requests that decode on average. Solving for x is a quadratic; b and tau follow by
iteration. Clients beyond the limits of sequences and KV cache queue for whole cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trimtab.plan.memory.limits import Limits
from trimtab.plan.performance.batch import Batch
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.step import Steps

_ITERATIONS: Final = 4
# The least part of its output that a sequence in the cache has grown by while others wait: vLLM admits by what is there
# now and turns the youngest out when the cache is full, the others reserve for the end. Between this and the whole
# output the sequences are spread evenly.
_YOUNGEST: Final = {"vllm": 0.2, "sglang": 1.0, "trtllm": 1.0}
_AGES: Final = 8


@dataclass(frozen=True, slots=True)
class Loop:
    """Times in milliseconds per replica. `step` is a decode step alone, `tpot` with the others' prefills."""

    running: Floats  # requests admitted
    decoding: Floats  # of them, on average
    tpot: Floats
    step: Floats
    served: Floats  # first token, from admission
    waiting: Floats  # from arrival to admission
    cycle: Floats  # of an admitted request, to its last token

    @property
    def ttft(self) -> Floats:
        return self.served + self.waiting


@dataclass(frozen=True, slots=True)
class Room:
    """How many requests run at once at most: `admitted` by all limits, `cached` by the KV cache; `fits`: at all."""

    admitted: Floats
    cached: Floats
    fits: NDArray[np.bool_]


def room(batch: Batch) -> Room:
    """By the limit of sequences and by the KV cache; at least one, so that what does not fit has figures too."""
    found = np.empty(len(batch.of))
    for number, variant in enumerate(batch.variants):
        mine = np.flatnonzero(batch.of == number)
        limits = Limits(
            sequences=batch.limits.sequences[mine],
            step_tokens=batch.limits.step_tokens[mine],
            length=batch.limits.length[mine],
            utilization=batch.limits.utilization[mine],
        )
        held = variant.memory.kv_bytes(limits)
        youngest = _YOUNGEST.get(variant.memory.point.engine, 1.0)
        ages = youngest + (1.0 - youngest) * (np.arange(_AGES)[:, np.newaxis] + 0.5) / _AGES
        lengths = batch.prompt[mine] + ages * batch.output[mine]
        # Whole blocks of each length, not those of the mean: a request's last block is half empty on average.
        found[mine] = held / np.mean(variant.memory.cache.sequence_bytes(lengths, limits.step_tokens), axis=0)
    groups = batch.each("data")
    admitted = np.maximum(1.0, np.minimum(found, batch.limits.sequences) * groups)
    return Room(admitted=admitted, cached=np.maximum(found * groups, 1e-9), fits=found >= 1.0)


def closed_loop(steps: Steps, clients: Floats, most: Floats, queueing: Floats | None = None) -> Loop:
    """`most` requests run at once (`Room.admitted`), `clients` ask.

    With `queueing`, milliseconds that a request waits for other prefills, nothing is assumed of how clients clump.
    """
    batch = steps.batch
    running = np.maximum(1.0, np.minimum(clients, most))
    context = batch.prompt + batch.output / 2.0
    output = batch.output / steps.tokens_per_step  # decode steps of a request
    share, own = _together(steps, running) if queueing is None else _apart(steps, queueing)
    first = steps.outside
    blocked = np.maximum(steps.prefill - _mixed(steps, running), 0.1 * steps.prefill)
    blocking = steps.engine("interference") * (running - 1.0) * blocked / steps.groups * share
    decoding, x = running, steps.decode(running, context)
    step, tau = x, x
    for _ in range(_ITERATIONS):
        # Each chunk of a prompt shares its step with the decoding of the others.
        tau = first + own + x * steps.chunks
        decoding = np.maximum(1.0, running * output * x / (tau + output * x))
        step = steps.decode(decoding, context)
        half = tau - step * output - blocking
        x = (-half + np.sqrt(half * half + 4.0 * output * step * tau)) / (2.0 * output)
        # A cycle has room for all prefills and decode steps, one after the other.
        x = np.maximum(x, (steps.prefill + blocking - tau) / output + step)
    cycle = tau + output * x
    return Loop(
        running=running,
        decoding=decoding,
        tpot=x / steps.tokens_per_step,
        step=step,
        served=tau,
        waiting=np.maximum(clients / running - 1.0, 0.0) * cycle,
        cycle=cycle,
    )


def _mixed(steps: Steps, running: Floats) -> Floats:
    """What a prefill saves by sharing its step with the tokens that decode; SGLang's prefills run alone."""
    mixes = np.array([v.memory.point.engine != "sglang" for v in steps.batch.variants])[steps.batch.of]
    tokens = steps.new_tokens / steps.chunks
    saved = steps.chunks * steps.curves.shared_ms(tokens, np.maximum(running / steps.groups, 1.0))
    return np.where(mixes & steps.batch.chunked, saved, 0.0)


def _apart(steps: Steps, queueing: Floats) -> tuple[Floats, Floats]:
    """Arrivals that do not depend on each other: one's own prefill, and a given wait for others'."""
    own = steps.prefill * (1.0 + steps.coefficients.shared.first_share)
    return np.ones_like(own), own + queueing


def _together(steps: Steps, running: Floats) -> tuple[Floats, Floats]:
    """The share of prefills that others wait for while decoding, and the prefills that a request waits for, ms.

    Requests of equal lengths that were admitted together end together, so their successors prefill together: a few of
    them where chunks mix with decoding, and whole batches where prefills go first (SGLang), in steps of a token budget.
    """
    batch, shared = steps.batch, steps.coefficients.shared
    own = running / batch.each("data")
    clump = np.where(batch.fixed, np.minimum(shared.clump, (own - 1.0) / 2.0), 0.0)
    multiple = 1.0 + shared.first_share + steps.engine("burst") * (own - 1.0) + clump
    lockstep = batch.fixed & np.array([v.memory.point.engine == "sglang" for v in batch.variants], bool)[batch.of]
    batches = np.maximum(1.0, own * steps.new_tokens / shared.lockstep_tokens)
    late = (batches + 1.0) / (2.0 * batches)
    share = np.where(lockstep, 1.0 - shared.lockstep * late, 1.0)
    return share, steps.prefill * np.where(lockstep, np.maximum(late * own, 1.0), multiple)

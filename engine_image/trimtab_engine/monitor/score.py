"""One number for how loaded the server is: 0 idle, 1 as full as it may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trimtab_engine.limits.limits import Limits

# A queue as long as what may run counts as half full; one without end as full.
_QUEUE_HALF = 1.0


@dataclass(frozen=True, kw_only=True)
class LoadFacts:
    """Requests that run and wait, and the KV cache's use (0 to 1).

    Processors and GPUs are left out: a batching engine keeps them busy with one request as with a hundred.
    """

    running: int
    waiting: int
    kv_usage: float


def parts(facts: LoadFacts, limits: Limits) -> dict[str, float]:
    """Each resource's share, 0 to 1, by its name."""
    running = facts.running / limits.max_running_requests
    if limits.max_queued_requests:
        queue = facts.waiting / limits.max_queued_requests
    else:
        length = facts.waiting / limits.max_running_requests
        queue = length / (length + _QUEUE_HALF)
    found = {"running": running, "queue": queue, "kv_cache": facts.kv_usage}
    return {name: _unit(value) for name, value in found.items()}


def load_score(facts: LoadFacts, limits: Limits) -> float:
    """The mean of the fullest resource and of the queue, 0 to 1.

    The fullest resource bounds what can still be taken up, so the others do not soften it. Full resources without a
    queue are what a well used server looks like, and so make one half at most; waiting makes the other.
    """
    shares = parts(facts, limits)
    queue = shares.pop("queue")
    return round((max(shares.values()) + queue) / 2, 4)


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 1.0

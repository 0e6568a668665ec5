"""How many ready pods the present load needs: what a change that takes a pod away for a while must leave."""

from __future__ import annotations

import math

from trimtab.analyse.signals import Limits
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.snapshot import PodMetrics, Snapshot

_FULL = 0.8  # of the slots or of the KV cache: above it requests begin to wait for each other
_WAITING = 1.0  # requests, as a mean over the window


def pods_needed(snapshot: Snapshot, limits: Limits, *, slo_met: bool | None) -> Reading[int]:
    """The pods that the load of all ready pods together would fill to 80 %, by slots or KV cache, the fuller one.

    All of them are needed while requests wait or the objective is violated. Unknown when a ready pod cannot be read.
    """
    if isinstance(snapshot.metrics, Unknown):
        return snapshot.metrics
    pods = [pod for view in snapshot.revisions for pod in view.ready_pods]
    used = waiting = 0.0
    for pod in pods:
        queue, share = pod.metrics.waiting, _used(pod.metrics, limits)
        if isinstance(queue, Unknown):
            return queue
        if isinstance(share, Unknown):
            return share
        waiting += queue.value
        used += share.value
    if waiting >= _WAITING or slo_met is False:
        return Known(len(pods))
    return Known(min(len(pods), math.ceil(used / _FULL)))


def _used(metrics: PodMetrics, limits: Limits) -> Reading[float]:
    """The share of a pod that is in use: of its slots, where their number is known, and of its KV cache."""
    shares = []
    if limits.max_num_seqs is not None and isinstance(metrics.running, Known):
        shares.append(metrics.running.value / max(1, limits.max_num_seqs))
    if isinstance(metrics.kv_usage, Known):
        shares.append(metrics.kv_usage.value)
    finite = [share for share in shares if math.isfinite(share)]
    return Known(max(finite)) if finite else Unknown(Why.NOT_EXPORTED, "Neither slots nor KV cache can be read.")

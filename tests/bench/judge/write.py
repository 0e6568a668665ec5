"""Simulated recordings as files, to be judged by `python -m trimtab.judge.replay`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from trimtab.judge.samples import PodSamples, Samples


def lines(pods: Sequence[PodSamples]) -> Iterator[str]:
    """One JSON object per line, sorted by time."""
    for place in range(len(pods[0].counters["requests_total"].times)):
        for pod in pods:
            for latency, histogram in pod.histograms.items():
                yield _line(pod, f"{latency.value}_seconds", histogram, place)
            for name, samples in (*pod.counters.items(), *pod.gauges.items()):
                yield _line(pod, name, samples, place)


def _line(pod: PodSamples, metric: str, samples: Samples, place: int) -> str:
    body: dict[str, object] = {
        "t": float(samples.times[place]),
        "role": "canary" if pod.canary else "stable",
        "pod": pod.name,
        "metric": metric,
    }
    values = samples.values[place]
    if samples.bounds:
        names = ["+Inf" if math.isinf(bound) else f"{bound:g}" for bound in samples.bounds]
        body["buckets"] = dict(zip(names, (float(value) for value in values[:-1]), strict=True))
        body["sum"], body["count"] = float(values[-1]), float(values[-2])
    else:
        body["value"] = float(values[0])
    return json.dumps(body)

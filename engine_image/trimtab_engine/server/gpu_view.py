"""What the server tells of its GPUs: metrics, health, status and findings for alerts."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from trimtab_engine.gpus.health import Verdict
from trimtab_engine.gpus.reading import THROTTLE
from trimtab_engine.shared.gpus import Shown, State, StateReader

_NOBODY = "the program that starts the engines has not told of any"
_GAUGES = {
    "memory_used_bytes": "Memory in use.",
    "memory_total_bytes": "Memory that there is.",
    "temperature_celsius": "Temperature of the chip.",
    "power_watts": "Power that the board draws.",
    "ecc_uncorrected": "Uncorrectable memory errors since the driver was loaded.",
    "retired_pages": "Pages of memory taken out of use.",
    "remapped_rows": "Rows of memory replaced by spare ones.",
}


class GpuMetrics:
    """A value that a GPU does not tell is NaN: with several API servers a series cannot be taken away."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            # Several API servers report one value each; all know the same.
            return Gauge(f"trimtab_engine_{name}", text, labels, registry=registry, multiprocess_mode="mostrecent")

        one = ("gpu", "uuid")
        self._watched = gauge("gpus_watched", "1 while GPUs are read by NVML.")
        self._values = {name: gauge(f"gpu_{name}", text, *one) for name, text in _GAUGES.items()}
        self._use = gauge("gpu_utilization_ratio", "Share of the time in which something was computed, 0 to 1.", *one)
        self._throttled = gauge("gpu_throttled", "1 while clocks are lowered for this reason.", *one, "reason")
        self._pending = gauge("gpu_memory_repair_pending", "1 while a part is replaced at the next reset.", *one)
        self._lost = gauge("gpu_lost", "1 once it does not answer.", *one)
        self._in_use = gauge("gpu_in_use", "1 while the engine computes on it.", *one)
        self._health = gauge("gpu_health", "1 for how it fares: ok, degraded, failed.", *one, "verdict")
        self._parallel = gauge("gpu_parallel_size", "How the model is spread: asked for and now.", "kind", "size")
        self._recoveries = gauge(
            "gpu_recoveries", "What was done about GPUs since the server began.", "action", "cause"
        )

    def show(self, state: State) -> None:
        """Brings all of it up to date."""
        self._watched.set(bool(state.gpus) and not state.absent)
        for kind, layout in (("asked", state.asked), ("now", state.layout)):
            for size, value in layout.as_json().items():
                self._parallel.labels(kind, size).set(value)
        for (action, cause), count in Counter((one.action, one.cause) for one in state.recoveries).items():
            self._recoveries.labels(action.value, cause.value).set(count)
        for gpu in state.gpus:
            self._show_one(gpu)

    def _show_one(self, gpu: Shown) -> None:
        reading = gpu.reading
        one = (str(reading.index), reading.uuid)
        for name, metric in self._values.items():
            metric.labels(*one).set(_number(getattr(reading, name)))
        self._use.labels(*one).set(_number(reading.utilization))
        for reason in THROTTLE.values():
            self._throttled.labels(*one, reason).set(reason in reading.throttle)
        self._pending.labels(*one).set(_number(reading.repair_pending))
        self._lost.labels(*one).set(bool(reading.lost))
        self._in_use.labels(*one).set(gpu.in_use)
        for verdict in Verdict:
            self._health.labels(*one, verdict.value).set(gpu.assessment.verdict is verdict)


class GpuView:
    """For the API servers. `look` about once a second, in any thread; nothing here asks a GPU."""

    def __init__(self, folder: Path, metrics: GpuMetrics) -> None:
        self._reader = StateReader(folder)
        self._metrics = metrics
        self._state = State(absent=_NOBODY)

    def look(self) -> None:
        """Takes up what is new."""
        state = self._reader.read()
        if state is not None and state is not self._state:
            self._state = state
            self._metrics.show(state)

    @property
    def problem(self) -> str:
        """GPUs that are not well; empty where all are."""
        return self.sentences(Verdict.FAILED, Verdict.DEGRADED)

    def sentences(self, *verdicts: Verdict) -> str:
        """A sentence for each GPU that fares so."""
        return " ".join(
            gpu.assessment.sentence(gpu.reading) for gpu in self._state.gpus if gpu.assessment.verdict in verdicts
        )

    @property
    def fewer(self) -> str:
        """Why the engine is not spread as it was asked for; empty where it is."""
        state = self._state
        if state.layout == state.asked:
            return ""
        last = next((one.message for one in reversed(state.recoveries)), "A GPU had failed before the engine began.")
        return f"The engine computes on {state.layout.sentence()} instead of {state.asked.sentence()}. {last}"

    def health(self) -> dict[str, Any]:
        """What /health tells: whether GPUs are watched, or why not, and how many fare how."""
        state = self._state
        if not state.gpus:
            return {"watched": False, "why": f"GPUs are not watched: {state.absent}."}
        counts = Counter(gpu.assessment.verdict for gpu in state.gpus)
        return {
            "watched": not state.absent,
            "why": f"GPUs are not watched: {state.absent}." if state.absent else None,
            **{verdict.value: counts[verdict] for verdict in Verdict},
            "in_use": sum(gpu.in_use for gpu in state.gpus),
        }

    def brief(self) -> list[dict[str, Any]]:
        """What GET /v1/optimization/metrics tells: how much each GPU has to do."""
        names = ("index", "uuid", "memory_used_bytes", "memory_total_bytes", "utilization", "power_watts")
        return [{name: getattr(gpu.reading, name) for name in names} for gpu in self._state.gpus if gpu.in_use]

    def shown(self) -> dict[str, Any]:
        """What GET /v1/optimization/status tells: each GPU, the layout, and what was done."""
        state = self._state
        return {
            **self.health(),
            "seconds_since_look": round(max(0.0, time.monotonic() - state.at), 1),
            "asked": state.asked.as_json(),
            "layout": state.layout.as_json(),
            "gpus": [gpu.as_json() for gpu in state.gpus],
            "recoveries": [one.as_json() for one in state.recoveries],
        }


def _number(value: float | bool | None) -> float:
    return math.nan if value is None else float(value)

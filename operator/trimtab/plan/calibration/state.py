"""What is remembered of observed configurations: a bounded list of log errors with what they are errors of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from trimtab.plan.point import ServingPoint, Traffic

State: TypeAlias = dict[str, Any]

VERSION: Final = 1
# About 230 bytes each in JSON: 300 stay below 100 KB with long names.
MOST: Final = 300
_LONGEST_NAME: Final = 80
_GROUP: Final = ("model", "device", "engine", "weights", "gpus")
_NEAR: Final = 0.5  # octaves
# Errors (natural logarithms) that differ by less are the same: three times what repeated measurements differ by.
_MOVED: Final = {"tpot": 0.1, "ttft": 0.3}
# An error beyond a factor of twenty is a unit or a label gone wrong, and is kept as that factor.
_WORST: Final = math.log(20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One configuration at work: predicted without any correction, and measured; milliseconds, means.

    `measured_ttft` None: the first tokens say nothing, as behind a queue.
    """

    point: ServingPoint
    traffic: Traffic
    predicted_tpot: float
    predicted_ttft: float
    measured_tpot: float
    measured_ttft: float | None


def empty() -> State:
    return {"version": VERSION, "observations": []}


def loads(data: Mapping[str, Any]) -> State:
    """A stored state; one of another version or of no sound structure is forgotten, as its errors are not ours."""
    rows = data.get("observations")
    if data.get("version") != VERSION or not isinstance(rows, list) or not all(map(_sound, rows)):
        return empty()
    return {"version": VERSION, "observations": [dict(row) for row in rows[-MOST:]]}


def update(state: State, observation: Observation) -> State:
    """The state with one more observation; the given one is left as it is.

    A configuration that is seen again replaces what was remembered of it. Raises ValueError for a time that is not
    positive and finite.
    """
    row = describe(observation.point, observation.traffic) | {
        "tpot": _error(observation.measured_tpot, observation.predicted_tpot),
        "ttft": None
        if observation.measured_ttft is None
        else _error(observation.measured_ttft, observation.predicted_ttft),
    }
    same = ("model", "device", "engine", "weights", "gpus", "load", "prompt", "output")
    others = [old for old in state["observations"] if any(old[name] != row[name] for name in same)]
    return {"version": VERSION, "observations": [*others, row][-MOST:]}


def learned(state: State, observation: Observation) -> State | None:
    """The state with what the observation says anew; None where it says what is remembered.

    An observation of the same group at sizes within half an octave replaces what was remembered, and only when the
    errors have moved by more than measurements do: a steady service teaches nothing new.
    """
    new = update(empty(), observation)["observations"][0]
    near = [old for old in state["observations"] if alike(old, new)]
    last = near[-1] if near else {}
    if new["ttft"] is None:
        new["ttft"] = last.get("ttft")
    if near and not any(_moved(last[name], new[name], limit) for name, limit in _MOVED.items()):
        return None
    rest = [old for old in state["observations"] if not alike(old, new)]
    return {"version": VERSION, "observations": [*rest, new][-MOST:]}


def _moved(old: float | None, new: float | None, limit: float) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(new - old) > limit


def others(state: State, point: ServingPoint, traffic: Traffic) -> State:
    """The state without what was seen of this very question, for whoever adds the measurement of it themselves."""
    asked = describe(point, traffic)
    return {"version": VERSION, "observations": [row for row in state["observations"] if not alike(row, asked)]}


def alike(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """The same group and number of GPUs, and sizes within half an octave."""
    return all(row[name] == other[name] for name in _GROUP) and all(
        abs(row[name] - other[name]) <= _NEAR for name in ("load", "prompt", "output")
    )


def describe(point: ServingPoint, traffic: Traffic) -> dict[str, Any]:
    """What observations are compared by. Sizes are binary logarithms with one decimal; of a closed loop the load is
    what runs at once.
    """
    load = traffic.concurrency if traffic.concurrency is not None else traffic.rate or 1.0
    if traffic.concurrency is not None and point.max_num_seqs is not None:
        load = min(load, float(point.max_num_seqs * point.layout.data))
    gpu = "cpu" if point.device.cpu else point.device.gpu.name if point.device.gpu else "unknown"
    return {
        "model": point.model.name[:_LONGEST_NAME],
        "device": gpu,
        "engine": point.engine,
        "weights": point.weights,
        "gpus": _octaves(point.layout.gpus),
        "load": _octaves(load),
        "prompt": _octaves(traffic.prompt),
        "output": _octaves(traffic.output),
    }


def _octaves(value: float) -> float:
    return round(math.log2(max(value, 1e-6)), 1)


def _error(measured: float, predicted: float) -> float:
    if not (math.isfinite(measured) and math.isfinite(predicted) and measured > 0 and predicted > 0):
        raise ValueError(f"measured {measured} ms and predicted {predicted} ms: both are above 0 and finite.")
    return round(max(-_WORST, min(_WORST, math.log(measured / predicted))), 4)


def _sound(row: object) -> bool:
    words, numbers = ("model", "device", "engine", "weights"), ("gpus", "load", "prompt", "output", "tpot")
    return (
        isinstance(row, dict)
        and (row.get("ttft", 0) is None or (isinstance(row.get("ttft"), int | float) and math.isfinite(row["ttft"])))
        and all(isinstance(row.get(name), str) for name in words)
        and all(isinstance(row.get(name), int | float) and math.isfinite(row[name]) for name in numbers)
    )

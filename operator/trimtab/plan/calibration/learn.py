"""A hierarchical normal model of the log error: engine, GPU with it, model with both, format, configuration.

An error is a sum of independent normal terms, one per level, so two observations covary by the levels that they share;
configurations of one group covary the more the nearer their sizes are. The posterior of a sum of normals is linear
algebra over at most a few hundred observations (Rasmussen and Williams, 2006, chapter 2). An observation whose error
is large for its group gets less weight: Student's t of four degrees of freedom by iterated reweighting (Lange et al.,
1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trimtab.plan.calibration.state import State, describe
from trimtab.plan.gaussian import explained_variance
from trimtab.plan.performance.forecast import Correction
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.point import ServingPoint, Traffic

_FREEDOM: Final = 4.0
_REWEIGHTINGS: Final = 4
# How far apart, in octaves, configurations of one group still err alike.
_REACH: Final = {"gpus": 1.5, "load": 2.0, "prompt": 2.0, "output": 2.5}


@dataclass(frozen=True, slots=True)
class Levels:
    """Standard deviations of the log error by level, and of what repeats differ by."""

    engine: float
    device: float
    model: float
    weights: float
    configuration: float
    noise: float

    @property
    def total(self) -> float:
        """Of a point of which nothing is known."""
        parts = (self.engine, self.device, self.model, self.weights, self.configuration)
        return float(np.sqrt(sum(part * part for part in parts)))


# Orders of magnitude of the errors that are left between and within groups of the published measurements.
LEVELS: Final = {
    "tpot": Levels(engine=0.02, device=0.03, model=0.06, weights=0.05, configuration=0.06, noise=0.03),
    "ttft": Levels(engine=0.10, device=0.10, model=0.15, weights=0.08, configuration=0.25, noise=0.10),
}


@dataclass(frozen=True, slots=True)
class Corrected:
    """Multiply the predicted mean by `factor`; `sd` is the log standard deviation that is left."""

    factor: float
    sd: float


def correction(state: State, point: ServingPoint, traffic: Traffic, metric: str = "tpot") -> Corrected:
    """Of one point; factor 1 and the full width where nothing alike was seen."""
    mean, sd = _posterior(state, [describe(point, traffic)], metric)
    return Corrected(float(np.exp(mean[0])), float(sd[0]))


def corrections(state: State, points: Sequence[ServingPoint], traffic: Sequence[Traffic]) -> Correction:
    """Of many points, as `forecast` takes them."""
    of, rows = _distinct(points, traffic)
    tpot, tpot_sd = _posterior(state, rows, "tpot")
    ttft, ttft_sd = _posterior(state, rows, "ttft")
    return Correction(
        tpot=np.exp(tpot)[of],
        ttft=np.exp(ttft)[of],
        tpot_width=tpot_sd[of] / LEVELS["tpot"].total,
        ttft_width=ttft_sd[of] / LEVELS["ttft"].total,
    )


def _distinct(
    points: Sequence[ServingPoint], traffic: Sequence[Traffic]
) -> tuple[NDArray[np.intp], list[dict[str, Any]]]:
    """What observations are compared by, once for all questions that agree in it, and which of them each has.

    The thousands of configurations of a search differ in limits, of which an observation is compared by one.
    """
    seen: dict[tuple[object, ...], int] = {}
    rows: list[dict[str, Any]] = []
    of = np.empty(len(points), np.intp)
    for number, (p, t) in enumerate(zip(points, traffic, strict=True)):
        most = p.max_num_seqs if t.concurrency is not None else None
        key = (
            id(p.model),
            id(p.device),
            p.engine,
            p.weights,
            p.layout,
            t.concurrency,
            t.rate,
            t.prompt,
            t.output,
            most,
        )
        found = seen.setdefault(key, len(rows))
        if found == len(rows):
            rows.append(describe(p, t))
        of[number] = found
    return of, rows


def _posterior(state: State, rows: Sequence[dict[str, Any]], metric: str) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the log error of each row."""
    levels, seen = LEVELS[metric], [row for row in state["observations"] if row[metric] is not None]
    prior = np.full(len(rows), levels.total**2)
    if not seen:
        return np.zeros(len(rows)), np.sqrt(prior)
    errors = np.array([row[metric] for row in seen], float)
    among = _covariance(seen, seen, levels)
    noise = np.full(len(seen), levels.noise**2)
    for _ in range(_REWEIGHTINGS):
        left = errors - among @ np.linalg.solve(among + np.diag(noise), errors)
        # What an observation's own neighbours do not explain counts against it.
        surprise = np.square(left) / levels.noise**2
        noise = levels.noise**2 * (_FREEDOM + surprise) / (_FREEDOM + 1.0)
    across = _covariance(rows, seen, levels)
    mean, explained = explained_variance(errors, among + np.diag(noise), across)
    return mean, np.sqrt(np.maximum(prior - explained, levels.noise**2 / 4.0))


def _covariance(rows: Sequence[dict[str, Any]], columns: Sequence[dict[str, Any]], levels: Levels) -> Floats:
    def same(name: str) -> Floats:
        left, right = (np.array([item[name] for item in items]) for items in (rows, columns))
        return np.asarray(left[:, None] == right[None, :], float)

    def apart(name: str) -> Floats:
        left, right = (np.array([item[name] for item in items], float) for items in (rows, columns))
        return np.asarray(np.square((left[:, None] - right[None, :]) / _REACH[name]))

    engine = same("engine")
    device = engine * same("device")
    model = device * same("model")
    weights = model * same("weights")
    near = np.exp(-0.5 * sum((apart(name) for name in _REACH), np.zeros_like(engine)))
    return (
        levels.engine**2 * engine
        + levels.device**2 * device
        + levels.model**2 * model
        + levels.weights**2 * weights
        + levels.configuration**2 * weights * near
    )

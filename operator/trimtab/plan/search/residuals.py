"""What measurements say about the candidates that were not measured.

The model's error is taken as a Gaussian process in log space (Rasmussen and Williams, Gaussian Processes for Machine
Learning, 2006, chapter 2) around the model's prediction: an error common to all candidates, because they run on the
same engine and GPU, and a local one that fades with the distance between configurations. So the physics gives the
shape and a few canaries give the level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trimtab.plan.gaussian import explained_variance, posterior
from trimtab.plan.search.candidates import Candidates, Estimate, Floats, Observation

# The part of the error's variance that all configurations of a deployment share; docs/planner.md says how it was set.
SHARED: Final = 0.7
# Distance, in doublings of a knob, over which local errors are alike.
LENGTH: Final = 4.0
# The same in doublings of what is predicted: far apart, it is made by other mechanisms (a step, a prefill in it).
SPAN: Final = 1.0
# A repeated measurement differs by this, as a standard deviation of the logarithm.
NOISE: Final = 0.03
# A residual counts as this many of the deviations expected for it at most: an outlier does not wreck the rest.
_HUBER: Final = 3.0


def informed(candidates: Candidates, observations: Sequence[Observation]) -> Candidates:
    """The candidates with every estimate corrected by what was measured."""
    metrics = {name: _posterior(candidates, name, observations) for name in candidates.metrics}
    return Candidates(candidates.features, metrics)


def _posterior(candidates: Candidates, metric: str, observations: Sequence[Observation]) -> Estimate:
    prior = candidates.metrics[metric]
    seen = _seen(candidates, metric, observations)
    if seen is None:
        return prior
    across = _between(seen.place, prior.sd, seen.place[seen.rows], prior.sd[seen.rows])
    shift, explained = explained_variance(seen.residual, seen.within, across)
    return Estimate(prior.mean + shift, np.sqrt(np.maximum(prior.sd**2 - explained, 0.0)))


def jointly(
    candidates: Candidates, metric: str, rows: Sequence[int], observations: Sequence[Observation] = ()
) -> tuple[Floats, Floats]:
    """The mean of a metric's logarithm in some rows, and the covariance of its error between them: (rows, rows)."""
    chosen = np.array(rows)
    prior, place = candidates.metrics[metric], _places(candidates, metric)
    mean, sd = prior.mean[chosen], prior.sd[chosen]
    covariance = _between(place[chosen], sd, place[chosen], sd)
    seen = _seen(candidates, metric, observations)
    if seen is None:
        return mean, covariance
    across = _between(place[chosen], sd, place[seen.rows], prior.sd[seen.rows])
    shift, explained = posterior(seen.residual, seen.within, across)
    return mean + shift, covariance - explained


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was measured of one metric: where, by how much the model erred, and the covariance of that."""

    rows: NDArray[np.intp]
    place: Floats  # of all candidates
    residual: Floats
    within: Floats


def _seen(candidates: Candidates, metric: str, observations: Sequence[Observation]) -> _Seen | None:
    pairs = [(o.row, o.measured[metric]) for o in observations if 0.0 < o.measured.get(metric, 0.0) < np.inf]
    if not pairs:
        return None
    prior, rows = candidates.metrics[metric], np.array([row for row, _ in pairs])
    place = _places(candidates, metric)
    within = _between(place[rows], prior.sd[rows], place[rows], prior.sd[rows]) + np.eye(len(rows)) * NOISE**2
    expected = np.sqrt(np.diag(within))
    residual = np.log([value for _, value in pairs]) - prior.mean[rows]
    return _Seen(rows, place, np.clip(residual, -_HUBER * expected, _HUBER * expected), within)


def _places(candidates: Candidates, metric: str) -> Floats:
    """Where each candidate stands, in lengths over which local errors are alike."""
    predicted = candidates.metrics[metric].mean / (math.log(2.0) * SPAN)
    return np.column_stack([candidates.features / LENGTH, np.where(np.isfinite(predicted), predicted, 0.0)])


def _between(left: Floats, left_sd: Floats, right: Floats, right_sd: Floats) -> Floats:
    squared = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=2)
    alike = SHARED + (1.0 - SHARED) * np.exp(-squared / 2.0)
    return np.asarray(left_sd[:, None] * right_sd[None, :] * alike)

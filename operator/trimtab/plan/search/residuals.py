"""What measurements say about the candidates that were not measured.

The model's error is taken as a Gaussian process in log space (Rasmussen and Williams, Gaussian Processes for Machine
Learning, 2006, chapter 2) around the model's prediction: an error common to all candidates, because they run on the
same engine and GPU, a local one that fades with the distance between configurations, and for latencies one of the
same milliseconds everywhere, which weighs less where more is predicted. So the physics gives the shape and a few
canaries give the level. Its scale is not known but learned too, which makes it a Student-t process (Shah, Wilson and
Ghahramani, Student-t processes as alternatives to Gaussian processes, 2014): tails are heavier, and errors larger than
expected widen what is left.
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

Rows = NDArray[np.intp]

# The part of the error's variance that all configurations of a deployment share; docs/planner.md says how it was set.
SHARED: Final = 0.8
# Distance, in doublings of a knob, over which local errors are alike.
LENGTH: Final = 3.5
# The same in doublings of what is predicted: far apart, it is made by other mechanisms (a step, a prefill in it).
SPAN: Final = 1.4
# An overhead of the engine's that the model does not know, relative to the model's width at the smallest latency.
OVERHEAD: Final = 1.0
# A repeated measurement differs by this, as a standard deviation of the logarithm.
NOISE: Final = 0.03
# Of Student's t distribution of errors before anything was seen: how far the model's own widths are trusted.
FREEDOM: Final = 8.0
# A residual counts as this many of the deviations expected for it at most: an outlier does not wreck the rest.
_HUBER: Final = 3.0
# An overhead adds to times, not to what is served in a time.
_RATES: Final = frozenset({"throughput"})


def informed(candidates: Candidates, observations: Sequence[Observation]) -> Candidates:
    """The candidates with every estimate corrected by what was measured."""
    metrics = {name: _posterior(candidates, name, observations) for name in candidates.metrics}
    return Candidates(candidates.features, metrics)


def _posterior(candidates: Candidates, metric: str, observations: Sequence[Observation]) -> Estimate:
    prior = candidates.metrics[metric]
    errors = _Errors.of(candidates, metric)
    seen = _seen(prior, errors, metric, observations)
    if seen is None:
        return prior
    across = errors.between(np.arange(candidates.count), seen.rows)
    shift, explained = explained_variance(seen.residual, seen.within, across)
    variance = np.maximum(errors.variance - explained, 0.0) * seen.widening
    return Estimate(prior.mean + shift, np.sqrt(variance), seen.freedom)


def jointly(
    candidates: Candidates, metric: str, rows: Sequence[int], observations: Sequence[Observation] = ()
) -> tuple[Floats, Floats]:
    """The mean of a metric's logarithm in some rows, and the covariance of its error between them: (rows, rows)."""
    chosen = np.array(rows)
    prior, errors = candidates.metrics[metric], _Errors.of(candidates, metric)
    mean, covariance = prior.mean[chosen], errors.between(chosen, chosen)
    seen = _seen(prior, errors, metric, observations)
    if seen is None:
        return mean, covariance
    shift, explained = posterior(seen.residual, seen.within, errors.between(chosen, seen.rows))
    return mean + shift, (covariance - explained) * seen.widening


@dataclass(frozen=True, slots=True)
class _Errors:
    """The model's errors of one metric. `place` is (candidates, features), in lengths over which local ones are alike;
    `sd` and `overhead` are standard deviations per candidate.
    """

    place: Floats
    sd: Floats
    overhead: Floats

    @classmethod
    def of(cls, candidates: Candidates, metric: str) -> _Errors:
        prior = candidates.metrics[metric]
        finite = np.isfinite(prior.mean)
        predicted = np.where(finite, prior.mean, 0.0)
        overhead = np.zeros_like(prior.sd)
        if metric not in _RATES and finite.any():
            least = float(predicted[finite].min())
            overhead = np.where(finite, OVERHEAD * prior.sd * np.exp(least - predicted), 0.0)
        place = np.column_stack([candidates.features / LENGTH, predicted / (math.log(2.0) * SPAN)])
        return cls(place, prior.sd, overhead)

    @property
    def variance(self) -> Floats:
        return np.asarray(self.sd**2 + self.overhead**2)

    def between(self, left: Rows, right: Rows) -> Floats:
        """The covariance between the candidates in `left` and those in `right`."""
        squared = ((self.place[left][:, None, :] - self.place[right][None, :, :]) ** 2).sum(axis=2)
        alike = SHARED + (1.0 - SHARED) * np.exp(-squared / 2.0)
        common = self.overhead[left][:, None] * self.overhead[right][None, :]
        return np.asarray(self.sd[left][:, None] * self.sd[right][None, :] * alike + common)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was measured of one metric: where, by how much the model erred, and the covariance of that."""

    rows: Rows
    residual: Floats
    within: Floats

    @property
    def freedom(self) -> float:
        return FREEDOM + len(self.rows)

    @property
    def widening(self) -> float:
        """Of variances: errors as large as expected leave them as they are, larger ones widen them."""
        surprise = float(self.residual @ np.linalg.solve(self.within, self.residual))
        return (FREEDOM + surprise) / self.freedom


def _seen(prior: Estimate, errors: _Errors, metric: str, observations: Sequence[Observation]) -> _Seen | None:
    pairs = [(o.row, o.measured[metric]) for o in observations if 0.0 < o.measured.get(metric, 0.0) < np.inf]
    if not pairs:
        return None
    rows = np.array([row for row, _ in pairs])
    within = errors.between(rows, rows) + np.eye(len(rows)) * NOISE**2
    expected = np.sqrt(np.diag(within))
    residual = np.log([value for _, value in pairs]) - prior.mean[rows]
    return _Seen(rows, np.clip(residual, -_HUBER * expected, _HUBER * expected), within)

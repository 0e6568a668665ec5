"""How much two pods of one revision differ, learned from the stable pods.

A canary is one pod, or few. That it is slower than stable says nothing as long as two stable pods may differ as much:
GPU pods of one revision differ by some per cent, processes on shared CPU cores by tens. Four stable pods tell little
about the spread by themselves (three degrees of freedom), so the spread is given a prior, and two more things are used:
a second latency of the same pods shares the scale, and where a slow pod is slow in both, what the second latency shows
explains as much of the first.

The model: on the logarithmic scale pod p has (u, v), its effects on the latency that is asked about and on the other
one, normal with standard deviations tau and kappa tau and correlation rho. (tau, kappa, rho) live on a grid. The
predictive distribution of the canary's own effect is a mixture of normals, one for each point of the grid (Gelman et
al., Bayesian Data Analysis, third edition, chapter 5, on hierarchical normal models).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from trimtab.judge.history import Flags, Floats
from trimtab.judge.sequential.bounds import normal_quantile, normal_tail

# Two kinds of hardware (median tau, spread of its logarithm, weight): GPU pods, which differ by some per cent, and
# shared CPU cores, where of two identical vLLM processes one had a mean ITL 25 % above the other's (measured).
_PRIOR = ((0.03, 0.3, 0.75), (0.11, 0.4, 0.25))
_TAUS = np.exp(np.linspace(math.log(0.006), math.log(0.6), 28))
_RHOS = np.array([0.0, 0.5, 0.9, 0.99])
_KAPPAS = np.array([1.0, 2.0])
_REACH = np.concatenate(
    (np.linspace(0.0, 0.3, 25), np.linspace(0.33, 1.5, 20))
)  # where the predictive tail is looked at for a quantile
_NEGLIGIBLE = 1e-7  # posterior weight, against tail probabilities of 1e-4
_CENTRE = 1.2  # variance of the middle half's mean against that of the plain mean, normal pods


@dataclass(frozen=True, slots=True)
class PodEffects:
    """Stable pods' persistent effects (S, 2) on the latency asked about and the other one (NaN column: no other), and
    the variances (2) that noise alone gives them.
    """

    effects: Floats
    noise: Floats


@dataclass(frozen=True, slots=True)
class Other:
    """The canary's difference in the other latency, on the logarithmic scale, and the variance of its noise."""

    difference: float
    variance: float


@dataclass(frozen=True, slots=True)
class Grid:
    tau: Floats
    rho: Floats
    kappa: Floats
    prior: Floats

    def only(self, kept: Flags) -> Grid:
        return Grid(self.tau[kept], self.rho[kept], self.kappa[kept], self.prior[kept])


@dataclass(frozen=True, slots=True)
class Spread:
    """The posterior over the points of the grid that matter; `scale`: the factor on tau for the difference between
    canary and stable; `paired`: whether the other latency was seen.
    """

    grid: Grid
    weights: Floats
    scale: float
    paired: bool

    def tail(self, difference: float, alpha: float, noise: float = 0.0, other: Other | None = None) -> float:
        """The probability that pods alike, with noise of half width `noise` at `alpha`, differ by more.

        `other`: the canary's difference in the other latency. With it, the question is about what it leaves to be
        explained. A canary that is faster in the other latency explains nothing.
        """
        weights, centre, variance = self._predictive(other)
        sigma = np.sqrt(variance + (noise / normal_quantile(alpha)) ** 2)
        return float((weights * normal_tail((difference - centre) / sigma)).sum())

    def floors(self, *alphas: float) -> tuple[float, ...]:
        """What the difference between canary and stable pods alike exceeds with each probability, without noise."""
        weights, _, variance = self._predictive(None)
        tails = normal_tail(_REACH[:, None] / np.sqrt(variance)[None, :]) @ weights
        # The logarithm of a tail is nearly straight between neighbours.
        heights = -np.log(np.maximum(tails, 1e-12))
        return tuple(float(np.interp(-math.log(alpha), heights, _REACH)) for alpha in alphas)

    def explained(self, other: Other) -> float:
        """The part of the canary's difference that pods alike with this difference in the other latency would show."""
        weights, centre, _ = self._predictive(other)
        return float((weights * centre).sum())

    def _predictive(self, other: Other | None) -> tuple[Floats, Floats, Floats]:
        """Weights, centres and variances of the mixture for the canary's own effect."""
        grid = self.grid
        variance = (grid.tau * self.scale) ** 2
        if other is None or not self.paired:
            return self.weights, np.zeros_like(variance), variance
        spread = grid.kappa**2 * variance + other.variance
        slope = grid.rho * grid.kappa * variance / spread
        weights = self.weights * np.exp(-0.5 * other.difference**2 / spread) / np.sqrt(spread)
        centre = slope * max(0.0, other.difference)
        return weights / weights.sum(), centre, variance - slope**2 * spread

    @property
    def tau(self) -> float:
        """The posterior mean of tau."""
        return float((self.weights * self.grid.tau).sum())


def spread_of(pods: PodEffects, canary_pods: int) -> Spread:
    """The posterior of the spread, given the stable pods; their prior alone where there are fewer than two."""
    grid = _grid()
    count = len(pods.effects)
    scale = math.sqrt((_CENTRE if count >= 4 else 1.0) / max(count, 1) + 1 / max(canary_pods, 1))
    paired = not bool(np.isnan(pods.effects).any())
    if count < 2:
        return Spread(grid, grid.prior, scale, False)
    first = grid.tau**2 + pods.noise[0]
    if paired:
        ((a, c), (_, b)) = np.cov(pods.effects.T)
        second = (grid.kappa * grid.tau) ** 2 + pods.noise[1]
        covariance = grid.rho * grid.kappa * grid.tau**2
        determinant = first * second - covariance**2
        trace = (second * a + first * b - 2 * covariance * c) / determinant
        fit = -0.5 * (count - 1) * (np.log(determinant) + trace)
    else:
        fit = -0.5 * (count - 1) * (np.log(first) + float(np.var(pods.effects[:, 0], ddof=1)) / first)
    weights = grid.prior * np.exp(fit - fit.max())
    weights = weights / weights.sum()
    kept = weights > _NEGLIGIBLE
    return Spread(grid.only(kept), weights[kept], scale, paired)


@cache
def _grid() -> Grid:
    tau, rho, kappa = (axis.ravel() for axis in np.meshgrid(_TAUS, _RHOS, _KAPPAS, indexing="ij"))
    logarithm = np.log(tau)
    prior = np.zeros_like(tau)
    for median, width, weight in _PRIOR:
        part = np.exp(-0.5 * ((logarithm - math.log(median)) / width) ** 2)
        prior += weight * part / part.sum()
    return Grid(tau, rho, kappa, prior)

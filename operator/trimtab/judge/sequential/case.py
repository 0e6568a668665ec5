"""What the checks share: computed once for a look, when it is first asked for."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from trimtab.judge.history import Flags, Floats, History
from trimtab.judge.sequential.load import Load, elasticity, load_of
from trimtab.judge.sequential.means import Means, means_of, settled, torn
from trimtab.judge.sequential.pods import Other, PodEffects, Spread, spread_of
from trimtab.judge.sequential.policy import Policy
from trimtab.judge.statistics import wilson
from trimtab.model.slo import Latency

# The other latency in which a slow pod would be slow as well.
_OTHER = {Latency.ITL: Latency.TTFT, Latency.TTFT: Latency.ITL, Latency.E2E: Latency.ITL}
SLACK = 0.01  # the probability that two pods alike differ by more than the slack granted at the tail
GOOD_ALPHA = 0.02  # the same for how much worse a Good canary may be than its pod lets it seem
_LEAST_INFORMATION = 1e-12
_LOAD_ERRORS = 1.5  # standard errors
_DISPERSION, _BEFORE_ERRORS = 2.0, 2.0  # of counts against binomial ones; standard errors of a share seen before


class Case:
    """One look at one canary."""

    def __init__(self, history: History, policy: Policy) -> None:
        self.history = history
        self.policy = policy
        self._means: dict[Latency, Means | None] = {}
        self._spreads: dict[Latency, Spread] = {}
        self._elasticities: dict[Latency, float] = {}
        self._floors: dict[Latency, tuple[float, float]] = {}
        self._canary_seen: dict[Latency, Floats] = {}

    @cached_property
    def alone(self) -> bool:
        """Whether nothing serves beside the canary, and nothing should."""
        return self.policy.alone or self.policy.watching

    def before(self, name: str) -> float | None:
        """What stable showed in the verdict that promoted; None while it is there to be looked at."""
        return self.policy.before.get(f"stable.{name}") if self.alone else None

    def share_before(self, name: str) -> float:
        """The same of a share, with what chance may add to it; 0 where nothing is known."""
        share, count = self.before(name), self.before("requests")
        if share is None or not count:
            return 0.0
        return wilson(share, count, _DISPERSION, _BEFORE_ERRORS)[1]

    @cached_property
    def settled(self) -> Flags:
        """(K, P) without warm-ups and restarts."""
        return settled(self.history, self.policy.warm_up)

    @cached_property
    def usable(self) -> Flags:
        """(K, P) of those the intervals in which the stable pods are a yardstick: none of them on a slow node."""
        uneven = torn(self.history, Latency.ITL, self.settled) | torn(self.history, Latency.TTFT, self.settled)
        return self.settled & ~uneven[:, None]

    @cached_property
    def load(self) -> Load:
        return load_of(self.history, self.policy.canary_share)

    @cached_property
    def canary_requests(self) -> Floats:
        """Requests that ended on all canary pods in each interval (K); 0 where unknown."""
        return np.asarray(np.nansum(self.history.requests()[:, self.history.canary], axis=1))

    @cached_property
    def stable_requests(self) -> Floats:
        """The same of all stable pods."""
        return np.asarray(np.nansum(self.history.requests()[:, self.history.stable], axis=1))

    def canary_seen(self, latency: Latency) -> Floats:
        """Requests of the canary pods that a latency was observed of in each interval (K); 0 where unknown."""
        if latency not in self._canary_seen:
            observed = self.history.observed(latency)[:, self.history.canary]
            self._canary_seen[latency] = np.asarray(np.nansum(observed, axis=1))
        return self._canary_seen[latency]

    def means(self, latency: Latency) -> Means | None:
        if latency not in self._means:
            self._means[latency] = means_of(self.history, latency, self.usable)
        return self._means[latency]

    def spread(self, latency: Latency) -> Spread:
        """How much pods alike differ in this latency."""
        if latency not in self._spreads:
            self._spreads[latency] = spread_of(self._effects(latency), int(self.history.canary.sum()))
        return self._spreads[latency]

    def other(self, latency: Latency) -> Other | None:
        """The canary's difference in the other latency; None where it is not to be had, or meant to change."""
        second = _OTHER[latency]
        if self.policy.traded(second) or second in self.policy.promises:
            return None
        means = self.means(second)
        if means is None:
            return None
        difference, information = means.estimate()
        # What the load surely explains of one latency is taken off the other as well, or it would be counted twice.
        slope = self.elasticity(second)
        surely = slope * max(0.0, self.load.logarithm - _LOAD_ERRORS * self.load.error)
        variance = 1 / max(information, _LEAST_INFORMATION) + (slope * self.load.error) ** 2
        return Other(difference - surely, variance)

    def elasticity(self, latency: Latency) -> float:
        """d ln(latency) / d ln(load), as the stable pods show it."""
        if latency not in self._elasticities:
            means = self.means(latency)
            centre = means.centre if means is not None else np.full(self.history.looks, np.nan)
            self._elasticities[latency] = elasticity(self.history, latency, centre)
        return self._elasticities[latency]

    def load_effect(self, latency: Latency) -> float:
        """ln of how much slower the canary may be for carrying more; 0 where it carries no more."""
        return self.elasticity(latency) * self.load.heavier

    def slack(self, latency: Latency) -> float:
        """ln of how much slower than stable the canary may be for no fault of its configuration; 0 alone."""
        if self.alone:
            return 0.0
        return self.floors(latency)[0] + self.load_effect(latency)

    def floors(self, latency: Latency) -> tuple[float, float]:
        """What pods alike differ by more than with a probability of `SLACK` and of `GOOD_ALPHA`, ln."""
        if latency not in self._floors:
            slack, floor = self.spread(latency).floors(SLACK, GOOD_ALPHA)
            self._floors[latency] = slack, floor
        return self._floors[latency]

    def shares_above(self, latency: Latency, edge: float, good: Flags | None = None) -> tuple[Floats, Floats]:
        """Per interval (K): the share of the canary's and of stable's observations above a bound of the histogram.

        NaN where a side has none. Only what is `good` (K, P) counts, by default what is usable.
        """
        series = self.history.histograms[latency]
        column = int(np.flatnonzero(series.bounds == edge)[0])
        good = (self.usable if good is None else good) & np.isfinite(series.count)
        count = np.where(good, series.count, 0.0)
        above = np.where(good, series.count - series.below[:, :, column], 0.0)
        sides = []
        for side in (self.history.canary, self.history.stable):
            number = count[:, side].sum(axis=1)
            with np.errstate(all="ignore"):
                sides.append(np.where(number > 0, above[:, side].sum(axis=1) / number, np.nan))
        return sides[0], sides[1]

    def pooled(self, latency: Latency) -> tuple[Floats, Floats]:
        """(B) of the canary and of stable: the share of all observations at or below each bound; NaN without any."""
        series = self.history.histograms[latency]
        good = self.usable & np.isfinite(series.count)
        below = np.where(good[:, :, None], series.below, 0.0).sum(axis=0)
        sides = []
        for side in (self.history.canary, self.history.stable):
            total = below[side].sum(axis=0)
            sides.append(total / total[-1] if total[-1] > 0 else np.full(total.shape, np.nan))
        return sides[0], sides[1]

    def _effects(self, latency: Latency) -> PodEffects:
        first, second = self.means(latency), self.means(_OTHER[latency])
        if first is None:
            return PodEffects(np.empty((0, 2)), np.zeros(2))
        effects = np.full((len(first.effects), 2), np.nan)
        effects[:, 0] = first.effects
        noise = np.array([first.effect_noise, 0.0])
        if second is not None and len(second.effects) == len(first.effects):
            effects[:, 1] = second.effects
            noise[1] = second.effect_noise
        return PodEffects(effects[np.isfinite(effects[:, 0])], noise)

"""Which canary comes next, or that none is worth it any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from trimtab.plan.search.acquire import expected_improvement, probability_kept, safe
from trimtab.plan.search.candidates import Bools, Candidates, Floats, Goal, Observation
from trimtab.plan.search.residuals import informed

# Candidates whose promises differ by less than this (natural logarithm) count as equal.
_ALIKE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Advice:
    """Try the candidate in `row`: its expected gain over the best known (share), the probability that it is safe."""

    row: int
    gain: float
    safe: float


@dataclass(frozen=True, slots=True)
class Stop:
    """No canary is worth it: `best` is the best measured row that keeps the limits, None when there is none."""

    best: int | None
    message: str


Next: TypeAlias = Advice | Stop


def next_canary(
    candidates: Candidates,
    goal: Goal,
    observations: Sequence[Observation],
    *,
    allowed: Bools | None = None,
    effort: Floats | None = None,
) -> Next:
    """The safe candidate with the largest expected improvement over the best measured one.

    The first observation is what runs now. Rows that were measured, or are not `allowed`, are not proposed. Of rows
    that promise nearly as much as the best one that of the least `effort` is taken. Deterministic: of equals the first
    row is taken.
    """
    found = informed(candidates, observations)
    best_row = best_measured(candidates, goal, observations)
    score = goal.score(found)
    eligible = safe(found, goal)
    eligible[[observation.row for observation in observations]] = False
    if allowed is not None:
        eligible &= allowed
    if not eligible.any():
        return Stop(best_row, "No other configuration is known to keep the limits.")
    # Without anything that keeps the limits, every safe candidate is an improvement: the likeliest best one is taken.
    best = score.mean[best_row] if best_row is not None else float(score.mean[eligible].min())
    promise = np.where(eligible, expected_improvement(score, best), -np.inf)
    row = int(np.argmax(promise))
    if effort is not None:
        row = int(np.argmin(np.where(promise >= promise[row] - _ALIKE, effort, np.inf)))
    gain = float(np.expm1(promise[row]))
    if best_row is not None and gain < goal.min_improvement:
        return Stop(
            best_row, f"The best candidate left promises {gain:.1%}, and {goal.min_improvement:.1%} is asked for."
        )
    return Advice(row, gain, float(probability_kept(found, goal.limits)[row]))


def best_measured(candidates: Candidates, goal: Goal, observations: Sequence[Observation]) -> int | None:
    """The measured row with the best objective among those that keep the limits."""
    sign = 1.0 if goal.maximise else -1.0
    kept = [o for o in observations if _kept(o, goal)]
    return max(kept, key=lambda o: sign * o.measured.get(goal.objective, -sign * np.inf)).row if kept else None


def _kept(observation: Observation, goal: Goal) -> bool:
    if observation.kept is not None:
        return observation.kept
    return goal.objective in observation.measured and goal.kept(observation.measured)

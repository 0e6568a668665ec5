"""Which canary comes next, or that none is worth it any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from trimtab.plan.search.acquire import expected_improvement, probability_kept
from trimtab.plan.search.candidates import Bools, Candidates, Floats, Goal, Observation
from trimtab.plan.search.residuals import informed

# The probability that any canary of a run breaks a limit, at most; and what part of what is left of it one may take.
RISK: Final = 0.1
SHARE: Final = 0.5
# A canary that breaks a limit with less than this probability may always be tried.
_NO_RISK: Final = 0.001
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
    risk: float = RISK,
) -> Next:
    """The safe candidate with the largest expected improvement over the best measured one.

    Safe is a candidate that takes no more than its share of the risk that is left to the run: the probabilities that
    the canaries before it would break a limit, as they were then, count against `risk`.

    The first observation is what runs now. Rows that were measured, or are not `allowed`, are not proposed. Of rows
    that promise nearly as much as the best one that of the least `effort` is taken. Deterministic: of equals the first
    row is taken.
    """
    found = informed(candidates, observations)
    best_row = best_measured(candidates, goal, observations)
    score = goal.score(found)
    kept = probability_kept(found, goal.limits)
    left = max(risk - spent(candidates, goal, observations), 0.0)
    eligible = kept >= 1.0 - max(SHARE * left, _NO_RISK)
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
    return Advice(row, gain, float(kept[row]))


def spent(candidates: Candidates, goal: Goal, observations: Sequence[Observation]) -> float:
    """The risk already taken: the sum of the probabilities, at the time, that a canary would break a limit."""
    taken = 0.0
    for number in range(1, len(observations)):
        before = informed(candidates, observations[:number])
        taken += 1.0 - float(probability_kept(before, goal.limits)[observations[number].row])
    return taken


def best_measured(candidates: Candidates, goal: Goal, observations: Sequence[Observation]) -> int | None:
    """The measured row with the best objective among those that keep the limits."""
    sign = 1.0 if goal.maximise else -1.0
    kept = [o for o in observations if _kept(o, goal)]
    return max(kept, key=lambda o: sign * o.measured.get(goal.objective, -sign * np.inf)).row if kept else None


def _kept(observation: Observation, goal: Goal) -> bool:
    if observation.kept is not None:
        return observation.kept
    return goal.objective in observation.measured and goal.kept(observation.measured)

"""What a strategy answers: how many pods a trial has, and what should exist in each phase of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from trimtab.model.rollout import Action, RolloutFacts, RolloutState
from trimtab.rollout.checks import Hold, Pass

Levels: TypeAlias = Callable[[RolloutState, RolloutFacts, float], tuple[Action, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One strategy. `trying`, `moving`, `watching` and `restoring` list all that should exist in their phases."""

    candidates: Callable[[RolloutFacts, RolloutState], int]  # the pods that the candidate is judged with at its share
    surge: Callable[[RolloutFacts], int]  # the most pods that a trial has beside those that the spec asks for
    trying: Levels  # CanaryStarting and CanaryJudging
    moving: Levels  # Shifting and Promoting
    is_moved: Callable[[RolloutFacts, RolloutState, float], Pass | Hold]  # whether Shifting or Promoting is over
    watching: Levels
    restoring: Levels  # RollingBack
    # Whether stable is as it was, beside its capacity: where pods keep running, that they have their old values.
    is_back: Callable[[RolloutState, RolloutFacts, float], bool] = lambda _state, _facts, _now: True

"""Ways to choose canaries one after another, with the same budget: Trimtab's search, Optuna's TPE, and chance."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import TypeAlias

import optuna

from trimtab.plan.search import Candidates, Goal, Observation, Stop, next_canary
from trimtab.plan.search.space import Space


@dataclass(frozen=True, slots=True)
class Trial:
    """A canary: its row, what was measured, and whether the strategy had called it safe."""

    row: int
    measured: Mapping[str, float]
    called_safe: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """What a strategy may know: the space, what the model predicts, the goal, and the row that runs now."""

    space: Space
    candidates: Candidates
    goal: Goal
    start: int
    measure: Callable[[int], Mapping[str, float]]


Strategy: TypeAlias = Callable[[Problem, int], Iterator[Trial]]


def trimtab(problem: Problem, seed: int) -> Iterator[Trial]:
    """Safe expected improvement around the model's prediction; ends when nothing is worth a canary."""
    seen = [Observation(problem.start, problem.measure(problem.start))]
    while not isinstance(answer := next_canary(problem.candidates, problem.goal, seen), Stop):
        measured = problem.measure(answer.row)
        seen.append(Observation(answer.row, measured))
        yield Trial(answer.row, measured, called_safe=True)


def chance(problem: Problem, seed: int) -> Iterator[Trial]:
    """Configurations in random order."""
    rows = [row for row in range(problem.space.count) if row != problem.start]
    random.Random(seed).shuffle(rows)
    for row in rows:
        yield Trial(row, problem.measure(row), called_safe=False)


def tpe(problem: Problem, seed: int) -> Iterator[Trial]:
    """Optuna's tree-structured Parzen estimator with the limits as constraints, and no model."""
    yield from _tpe(problem, seed, warm=0)


def warm_tpe(problem: Problem, seed: int) -> Iterator[Trial]:
    """The same, told the model's predictions of 64 configurations as if they had been measured."""
    yield from _tpe(problem, seed, warm=64)


def _tpe(problem: Problem, seed: int, *, warm: int) -> Iterator[Trial]:
    goal, space = problem.goal, problem.space
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constraints are experimental
        sampler = optuna.samplers.TPESampler(
            seed=seed, multivariate=True, n_startup_trials=4, constraints_func=lambda trial: trial.user_attrs["over"]
        )
    study = optuna.create_study(direction="maximize" if goal.maximise else "minimize", sampler=sampler)
    axes = {axis.knob: optuna.distributions.CategoricalDistribution(axis.values) for axis in space.axes}

    def over(measured: Mapping[str, float]) -> list[float]:
        return [measured[limit.metric] / limit.value - 1.0 for limit in goal.limits]

    def told(row: int, measured: Mapping[str, float]) -> optuna.trial.FrozenTrial:
        excess = over(measured)
        return optuna.trial.create_trial(
            params=space.config(row),
            distributions=dict(axes),
            value=measured[goal.objective],
            user_attrs={"over": excess},
            system_attrs={"constraints": excess},
        )

    source = random.Random(seed)
    for row in source.sample(range(space.count), min(warm, space.count)):
        predicted = {name: float(estimate.median[row]) for name, estimate in problem.candidates.metrics.items()}
        study.add_trial(told(row, predicted))
    study.add_trial(told(problem.start, problem.measure(problem.start)))
    tried = {problem.start}
    while len(tried) < space.count:
        asked = study.ask(dict(axes))
        # What was asked for is only a suggestion: the trial that counts is the one with the measurement.
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
        found = space.row(asked.params)
        # Optuna may repeat itself; nobody would run the same canary twice.
        row = found if found is not None and found not in tried else source.choice(_others(space, tried))
        tried.add(row)
        measured = problem.measure(row)
        study.add_trial(told(row, measured))
        yield Trial(row, measured, called_safe=False)


def _others(space: Space, tried: Set[int]) -> list[int]:
    return [row for row in range(space.count) if row not in tried]


STRATEGIES: Mapping[str, Strategy] = {
    "trimtab": trimtab,
    "optuna tpe": tpe,
    "optuna tpe, warm": warm_tpe,
    "random": chance,
}

"""The configuration to go for: the safest improvement, or what comes nearest to a target that nothing keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trimtab.plan.context import Context
from trimtab.plan.modelled.choices import Choices, effort
from trimtab.plan.modelled.goal import reachable
from trimtab.plan.modelled.weighed import Weighed
from trimtab.plan.search import Advice, Goal, next_canary

_TRIES = 8  # configurations that the engine refuses, before the search is given up


@dataclass(frozen=True, slots=True)
class Chosen:
    """The row to go for."""

    row: int
    goal: Goal


def choose(context: Context, found: Choices, weighed: Weighed, goal: Goal) -> Chosen | str:
    """The row to go for, or a sentence that says why none is."""
    allowed = weighed.served.copy()
    # Whether what runs keeps the limits of this goal: a relaxed one leaves out those that it breaks.
    limits = {limit.metric for limit in goal.limits}
    targets = context.request.health.targets
    kept = all(state.met is not False for state in targets if state.target.name in limits)
    seen = tuple(replace(observation, kept=kept) for observation in weighed.seen)
    cost = effort(found, context.workload.demand)
    for _ in range(_TRIES):
        advice = next_canary(weighed.candidates, goal, seen, allowed=allowed, effort=cost)
        if not isinstance(advice, Advice):
            return advice.message
        if acceptable(context, found, advice.row):
            return _worth_it(weighed, Chosen(advice.row, goal))
        allowed[advice.row] = False
    return "The engine refuses what the model prefers."


def acceptable(context: Context, found: Choices, row: int) -> bool:
    """Nothing certain is known against the configuration that was not there before, and it was not tried in vain."""
    request, after = context.request, found.config(context, row)
    before = context.catalogue.problems(request.version, request.config, device=request.device)
    problems = context.catalogue.problems(request.version, after, device=request.device)
    return after not in request.tried and all(problem in before for problem in problems)


def still_good(weighed: Weighed, goal: Goal, row: int, best: int | None) -> bool:
    """Whether a row that was proposed before keeps the limits, and is not clearly behind the best one of now; without
    one, whether it is still better than what runs.
    """
    score = goal.score(weighed.known).mean
    if best is None:
        least = score[weighed.seen[0].row] + np.log1p(goal.min_improvement) / 2.0
    else:
        least = score[best] - max(0.05, goal.min_improvement)
    return bool(reachable(goal, weighed)[row] and score[row] >= least)


def _worth_it(weighed: Weighed, chosen: Chosen) -> Chosen | str:
    """A service that breaks a target must be seen to come nearer, or the objective to get better."""
    known, goal, now = weighed.known, chosen.goal, weighed.seen[0].row
    gains = [float(goal.score(known).mean[chosen.row] - goal.score(known).mean[now])]
    for limit in goal.limits:
        values = known.metrics[limit.metric].mean
        gains.append(float(values[now] - values[chosen.row]))
    finite = [gain for gain in gains if not np.isnan(gain)]
    if max(finite, default=0.0) >= np.log1p(goal.min_improvement):
        return chosen
    return f"Nothing is predicted to become better by {goal.min_improvement:.0%}."

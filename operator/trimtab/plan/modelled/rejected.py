"""What was weighed and left, and the number that decided against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from trimtab.model.plan import Metric, Rejected
from trimtab.model.wording import percent, seconds
from trimtab.plan.modelled import words
from trimtab.plan.modelled.choices import Choices, effort
from trimtab.plan.modelled.choose import Chosen
from trimtab.plan.modelled.goal import metric_of, reachable
from trimtab.plan.modelled.subject import KNOBS
from trimtab.plan.modelled.weighed import Weighed
from trimtab.plan.search import Goal
from trimtab.plan.search.acquire import probability_kept
from trimtab.plan.search.candidates import SAFE, Bools

_ALIKE: Final = 0.02


def rejected(found: Choices, weighed: Weighed, goal: Goal, chosen: Chosen | None) -> tuple[Rejected, ...]:
    """The best one that may break a target, the best value of every knob that stays, and what could not be varied."""
    taken = {} if chosen is None else found.changes(chosen.row)
    answer = [*_too_risky(found, weighed, goal, chosen), *_alone(found, weighed, goal, taken), *found.closed]
    return tuple(dict.fromkeys(answer))


def _too_risky(found: Choices, weighed: Weighed, goal: Goal, chosen: Chosen | None) -> Iterator[Rejected]:
    """What promises most and is not safe enough."""
    known = weighed.known
    score, kept = goal.score(known).mean, reachable(goal, weighed)
    least = score[chosen.row] if chosen is not None else score[found.now]
    risky = np.where(weighed.served & ~kept, score, -np.inf)
    best = float(risky.max(initial=-np.inf))
    if not goal.limits or best <= least:
        return
    row = int(np.argmin(np.where(risky >= best - _ALIKE, effort(found, 0.0), np.inf)))
    chance = float(probability_kept(known, goal.limits)[row])
    worst = max(goal.limits, key=lambda limit: float(known.metrics[limit.metric].mean[row]) - np.log(limit.value))
    value = float(known.metrics[worst.metric].median[row])
    numbers = f"{worst.metric} would be about {seconds(value)}, and {seconds(worst.value)} is wanted"
    sure = f"the targets are kept with a probability of {percent(chance)}, and {percent(SAFE)} is asked for"
    yield Rejected(
        words.title(found.changes(row)), f"{_amount(goal, score[row] - score[found.now])}, but {numbers}: {sure}."
    )


def _alone(found: Choices, weighed: Weighed, goal: Goal, taken: Mapping[str, object]) -> Iterator[Rejected]:
    """Of each knob that stays as it is the best other value, changed alone."""
    score, kept = goal.score(weighed.known).mean, reachable(goal, weighed)
    for knob in KNOBS:
        if knob in taken:
            continue
        rows = np.flatnonzero(_only(found, knob) & kept)
        if not len(rows):
            continue
        best = int(rows[np.argmax(score[rows])])
        amount = _amount(goal, score[best] - score[found.now])
        yield Rejected(words.title(found.changes(best)), f"Alone, {amount}.")


def _only(found: Choices, knob: str) -> Bools:
    """Rows that differ from what runs in this knob alone."""
    here = found.space.index[found.now]
    differs = found.space.index != here
    position = [axis.knob for axis in found.space.axes].index(knob)
    return np.asarray(differs[:, position] & (differs.sum(axis=1) == 1))


def _amount(goal: Goal, gain: float) -> str:
    """`throughput x 1.02 is predicted`; a latency that falls is below 1."""
    metric = metric_of(goal)
    factor = float(np.exp(gain if metric is Metric.THROUGHPUT else -gain))
    return f"{goal.objective} x {factor:.2f} is predicted"

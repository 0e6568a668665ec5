"""RollingBack: stable capacity is restored first; only then the candidate goes. A pause does not stop it."""

from __future__ import annotations

from dataclasses import replace

from trimtab.model.rollout import Action, RolloutFacts, RolloutState
from trimtab.rollout.capacity import canary, is_restored, overdue, target, whole
from trimtab.rollout.checks import counted
from trimtab.rollout.strategies import way_of
from trimtab.rollout.trial import Move, finished


def advance(state: RolloutState, facts: RolloutFacts, now: float) -> Move:
    if state.candidate is None or state.stable is None:
        return finished(state, now)
    found = canary(facts, state.candidate.revision)
    served, wanted = target(facts, state), whole(facts, state)
    # A stable revision that does not come back must not keep a corrected spec from being tried. What still serves of
    # the candidate is then left beside it, and goes as a stray once something else carries everything.
    gone = found.gone or (served.ready == 0 and overdue(facts, state, now))
    restored = not state.moved or is_restored(facts, state, now)
    if gone and restored and way_of(state, facts).is_back(state, facts, now):
        return finished(state, now)
    message = f"{served.ready} of {counted(wanted, 'stable pod')} ready; the candidate has {len(found.pods)} left."
    if facts.route is not None and facts.route.most:
        message += f" The route still gives it {facts.route.most} % of the traffic. {facts.route.message}".rstrip()
    return Move(replace(state, holding=message))


def actions(state: RolloutState, facts: RolloutFacts, now: float) -> tuple[Action, ...]:
    return way_of(state, facts).restoring(state, facts, now)

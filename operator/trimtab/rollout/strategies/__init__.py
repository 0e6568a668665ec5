"""One file per strategy: what should exist while a candidate is tried, taken over, watched or taken away."""

from __future__ import annotations

from trimtab.model.rollout import RolloutFacts, RolloutState, Strategy
from trimtab.rollout.strategies import adopted, blue_green, canary, in_place, live
from trimtab.rollout.strategies.way import Way

WAYS: dict[Strategy, Way] = {
    Strategy.CANARY: canary.WAY,
    Strategy.BLUE_GREEN: blue_green.WAY,
    Strategy.IN_PLACE: in_place.WAY,
    Strategy.LIVE: live.WAY,
}


def way_of(state: RolloutState, facts: RolloutFacts) -> Way:
    """The way of the trial that runs. An adopted workload is reconfigured by its own rollout, whatever the strategy."""
    return adopted.WAY if facts.policy.adopted else WAYS[state.strategy]

"""The rollout's properties once more with operators that end: the state goes through the resource's status each time.

Beside the crashes of `test_rollout_properties` an operator ends before it has persisted what it decided, or is
followed by one that knows only what the status holds; verdicts may swing, and the writes of the last trial are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.property.simulated_cluster import BAD, GOOD, UNKNOWN, Cluster, wish
from tests.property.test_rollout_properties import Rollouts
from trimtab.api.convert import rollout_state_from, rollout_state_to
from trimtab.model.rollout import Action, Phase, RolloutState
from trimtab.model.verdict import Verdict
from trimtab.rollout import step

_SWINGS = 20  # the revision whose verdicts swing
_SPOKEN = ("holding",)  # for people; a status that differs in it alone is not written


class Counting(Cluster):
    """Counts what a real cluster would have been written."""

    writes = 0

    def perform(self, actions: Iterable[Action], *, whole: bool = True) -> None:
        before = {name: (workload.desired, workload.runs) for name, workload in self.workloads.items()}
        super().perform(actions, whole=whole)
        after = {name: (workload.desired, workload.runs) for name, workload in self.workloads.items()}
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        self.writes += len(changed)

    def verdict(self, state: RolloutState) -> Verdict | None:
        known = super().verdict(state)
        if known is None or state.candidate is None or state.candidate.revision != f"rev{_SWINGS}":
            return known
        return (GOOD, UNKNOWN, BAD)[int(self.now / 15.0) % 3]


class Restarts(Rollouts):
    """One deployment whose operators come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.world.cluster = Counting()

    @rule()
    def the_operator_is_replaced_by_one_that_reads_the_status(self) -> None:
        self.world.state = through_the_status(self.world.state)

    @rule(seconds=st.sampled_from([0.0, 1.0, 15.0]))
    def the_operator_ends_before_it_persists_what_it_decided(self, seconds: float) -> None:
        self._tick(seconds)
        step(self.world.state, self.world.facts(), self.world.cluster.now)

    @rule()
    def the_user_wants_what_swings(self) -> None:
        self.world.user = wish(_SWINGS)
        self._pass(6)

    def teardown(self) -> None:
        """The way to rest under fair facts costs a bounded number of writes, also with a new operator at each look."""
        cluster, world = self.world.cluster, self.world
        assert isinstance(cluster, Counting)
        self._be_fair()
        cluster.writes, states = 0, 0
        for _ in range(300):
            before = _written(world.state)
            world.state = through_the_status(world.state)
            self.time_passes_and_the_operator_steps(15.0)
            states += _written(world.state) != before
            stable = world.state.stable
            if world.state.phase is Phase.STABLE and stable is not None and stable.revision == "rev99":
                break
        replicas, shares = world.policy.replicas, len(world.policy.shares)
        assert states <= 24 + 4 * shares, "one trial ends and another one goes through five phases, two for each share"
        assert cluster.writes <= 20 + 6 * replicas + 2 * shares, "each replica moves once in each trial"
        super().teardown()


def through_the_status(state: RolloutState) -> RolloutState:
    """What an operator reads of what another one wrote; it must be able to."""
    found = rollout_state_from(rollout_state_to(state))
    assert isinstance(found, RolloutState), found
    assert rollout_state_to(found) == rollout_state_to(state)
    return found


def _written(state: RolloutState) -> dict[str, Any]:
    document = rollout_state_to(state)
    rollout = {name: value for name, value in document["rollout"].items() if name not in _SPOKEN}
    rollout.pop("verdict", None)
    return {**document, "rollout": rollout}


Restarts.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestRestarts = Restarts.TestCase

"""The rollout's properties with an engine whose pods take other values while they run."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.property.simulated_cluster import Nature, wish
from tests.property.test_rollout_properties import Rollouts
from tests.property.test_rollout_restarts import through_the_status
from trimtab.model.rollout import RolloutFacts, Source, Strategy

_NATURES = {
    5: Nature.GOOD,
    6: Nature.HARMFUL,
    7: Nature.HARMFUL_LATER,
    8: Nature.UNDECIDED,
    9: Nature.LIVE_REFUSED,
    10: Nature.NEVER_READY,  # its values are never shown to be in force
}
_ACTIVE = st.sampled_from([None, 4, *_NATURES])
_BASES = st.sampled_from([1, 1, 1, 2])  # 2 changes what no running pod takes
_INTERVALS = st.sampled_from([0, 0, 1, 2, 3, 6, 10])


class LiveRollouts(Rollouts):
    """`rev1` and what differs from it by live values."""

    last = wish(99, active=99)  # names both knobs, so that nothing is kept that was tuned

    def __init__(self) -> None:
        super().__init__()
        self.world.cluster.live = True

    @rule(intervals=_INTERVALS)
    def natures_are_drawn(self, intervals: int) -> None:
        self.world.cluster.natures |= {
            f"rev{base}-{active}": nature for base in (1, 2) for active, nature in _NATURES.items()
        }
        self._pass(intervals)

    @rule(base=_BASES, active=_ACTIVE, intervals=_INTERVALS)
    def the_user_edits_a_live_value(self, base: int, active: int | None, intervals: int) -> None:
        self.world.user = wish(base, active=active)
        self._pass(intervals)

    @rule(base=_BASES, active=_ACTIVE, intervals=_INTERVALS)
    def a_plan_for_a_live_value_is_made(self, base: int, active: int | None, intervals: int) -> None:
        self.world.planned = wish(base, Source.PLAN, active)
        self._pass(intervals)

    @rule()
    def the_operator_is_replaced_by_one_that_reads_the_status(self) -> None:
        self.world.state = through_the_status(self.world.state)

    def _step(self, facts: RolloutFacts, performed: int | None = None) -> None:
        before, cluster = self.world.state, self.world.cluster
        pods = {pod.name for workload in cluster.workloads.values() for pod in workload.pods}
        super()._step(facts, performed)
        trial = before.candidate
        same = trial is not None and trial == self.world.state.candidate
        if same and before.strategy is Strategy.LIVE and not self.room_changed and not self.lost_a_pod:
            workload = cluster.workloads.get(trial.carrier) if trial is not None else None
            left = {pod.name for pod in workload.pods} if workload is not None else set()
            ours = {name for name in pods if trial is not None and name.rpartition("-")[0] == trial.carrier}
            assert ours <= left, "a pod ended although its values change while it runs"


LiveRollouts.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestLiveRollouts = LiveRollouts.TestCase

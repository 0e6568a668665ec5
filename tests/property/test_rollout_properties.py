"""Properties of the rollout under random users, pods, judges, stale facts and an operator that crashes."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.property.simulated_cluster import (
    BAD,
    GOOD,
    OTHER_OUTPUTS,
    SAME_OUTPUTS,
    UNCOMPARED,
    UNKNOWN,
    Cluster,
    Nature,
    World,
    wish,
)
from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.model.rollout import (
    Action,
    Announce,
    Candidate,
    Decision,
    EnsureRevision,
    Phase,
    Policy,
    RevisionFacts,
    RolloutFacts,
    RolloutState,
    RouteFacts,
    Source,
    Stable,
    Strategy,
    Wish,
)
from trimtab.model.snapshot import Live, PodFacts, PodTrouble
from trimtab.rollout import next_wake, step
from trimtab.rollout.capacity import floor
from trimtab.rollout.table import TRANSITIONS, is_allowed

_ON_TRIAL = (Phase.CANARY_STARTING, Phase.CANARY_JUDGING, Phase.SHIFTING, Phase.PROMOTING, Phase.WATCHING)
_SCARCE = (Strategy.IN_PLACE, None)  # strategies that are tried where there is no room beside the stable pods
_NATURES = dict(enumerate(Nature, start=2))  # 2 is good, the others are each bad in their own way
_NUMBERS = st.sampled_from([2, 22, 23, *_NATURES])
_INTERVALS = st.sampled_from([0, 0, 1, 2, 3, 4, 6, 10])


def level(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    return tuple(action for action in actions if not isinstance(action, Announce))


class Rollouts(RuleBasedStateMachine):
    """One deployment; `rev1` is good, what the other revisions are is drawn."""

    last = wish(99)  # what the user asks for in the end

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Cluster())
        self.before: RolloutFacts | None = None
        self.lost_a_pod = False
        self.room_changed = False

    @initialize(
        replicas=st.integers(1, 4),
        canaries=st.integers(1, 2),
        strategy=st.sampled_from([Strategy.CANARY, Strategy.BLUE_GREEN, Strategy.IN_PLACE, None]),
        shares=st.sampled_from([(), (), (25,), (10, 50, 90)]),
        drain=st.sampled_from([0.0, 20.0]),
        by_weight=st.booleans(),
        intervals=st.sampled_from([0, 1, 5]),
    )
    def begin(
        self,
        replicas: int,
        canaries: int,
        strategy: Strategy | None,
        shares: tuple[int, ...],
        drain: float,
        by_weight: bool,
        intervals: int,
    ) -> None:
        self.world.cluster.drain = drain
        self.world.cluster.route = RouteFacts(least=50, most=50) if by_weight else None
        self.world.cluster.slots = replicas if strategy in _SCARCE else None
        self.world.policy = Policy(
            strategy=strategy,
            shares=shares,
            share_seconds=20.0,
            drain_seconds=drain,
            replicas=replicas,
            canary_replicas=canaries,
            min_ready_deadline=120.0,
            judge_deadline=120.0,
            watch_seconds=45.0,
            cooldown=30.0,
            max_attempts=1000,
        )
        self.world.cluster.natures = {f"rev{number}": nature for number, nature in _NATURES.items()}
        self._pass(intervals)

    @rule(seconds=st.sampled_from([0.0, 1.0, 15.0, 15.0, 15.0, 60.0]))
    def time_passes_and_the_operator_steps(self, seconds: float) -> None:
        self._tick(seconds)
        self._step(self.world.facts())

    @rule(count=st.integers(2, 12))
    def several_intervals_pass(self, count: int) -> None:
        self._pass(count)

    @precondition(lambda self: self.before is not None and not self.lost_a_pod)
    @rule()
    def the_operator_sees_the_cluster_as_it_was_one_step_ago(self) -> None:
        assert self.before is not None
        fresh = self.world.facts()
        self.room_changed = True  # an old look may ask for a pod whose room has been taken since
        self._step(replace(fresh, revisions=self.before.revisions))

    @rule()
    def the_operator_crashes_before_it_performs(self) -> None:
        self._tick(1.0)
        self._step(self.world.facts(), performed=0)

    @rule(performed=st.integers(1, 2))
    def the_operator_crashes_in_the_middle(self, performed: int) -> None:
        self._tick(1.0)
        self._step(self.world.facts(), performed=performed)

    @rule(number=_NUMBERS, intervals=_INTERVALS)
    def the_user_edits_the_spec(self, number: int, intervals: int) -> None:
        self.world.user = wish(number)
        self._pass(intervals)

    @rule(intervals=_INTERVALS)
    def the_user_goes_back_to_the_start(self, intervals: int) -> None:
        self.world.user = wish(1)
        self._pass(intervals)

    @rule(number=_NUMBERS, intervals=_INTERVALS)
    def a_plan_is_made(self, number: int, intervals: int) -> None:
        self.world.planned = wish(number, Source.PLAN)
        self._pass(intervals)

    @rule(switch=st.sampled_from(["paused", "suspended", "abort", "metrics"]))
    def a_switch_is_thrown(self, switch: str) -> None:
        setattr(self.world, switch, not getattr(self.world, switch))
        self._pass(2)

    @rule()
    def all_switches_are_put_back(self) -> None:
        self.world.paused = self.world.suspended = self.world.abort = False
        self.world.metrics = True

    @rule(number=st.integers(1, 12))
    def a_pod_is_lost(self, number: int) -> None:
        self.world.cluster.kill(f"rev{number}")
        self.lost_a_pod = True

    @rule(replicas=st.integers(1, 4))
    def the_user_scales(self, replicas: int) -> None:
        policy = self.world.policy
        self.room_changed = self.room_changed or replicas != policy.replicas
        self.world.policy = replace(policy, replicas=replicas)
        if policy.strategy in _SCARCE:
            self.world.cluster.slots = replicas

    @rule(shares=st.sampled_from([(), (25,), (10, 50, 90)]))
    def the_user_edits_the_shares(self, shares: tuple[int, ...]) -> None:
        self.world.policy = replace(self.world.policy, shares=shares)

    @rule()
    def somebody_else_takes_the_weights_or_gives_them_back(self) -> None:
        self.world.cluster.route_refuses = not self.world.cluster.route_refuses

    @rule(needed=st.sampled_from([None, 1, 2, 4]))
    def the_load_changes(self, needed: int | None) -> None:
        self.world.pods_needed = needed

    @invariant()
    def what_is_known_as_bad_is_not_on_trial(self) -> None:
        state = self.world.state
        if state.phase in _ON_TRIAL and state.candidate is not None:
            assert state.candidate.revision not in state.bad

    @invariant()
    def a_rollback_can_be_reached(self) -> None:
        state = self.world.state
        if state.phase not in _ON_TRIAL:
            return
        facts = replace(self.world.facts(), abort=True)
        after, _ = step(state, facts, self.world.cluster.now + 1.0)
        assert after.phase in (Phase.ROLLING_BACK, Phase.STABLE)

    @invariant()
    def the_next_look_comes_within_an_interval(self) -> None:
        wake = next_wake(self.world.state, self.world.policy, self.world.cluster.now)
        assert 0 < wake <= self.world.policy.interval

    def teardown(self) -> None:
        """Under fair facts everything comes to rest in the revision that the user asks for."""
        world = self.world
        self._be_fair()
        for _ in range(300):
            self.time_passes_and_the_operator_steps(15.0)
            stable = world.state.stable
            if world.state.phase is Phase.STABLE and stable is not None and stable.revision == self.last.revision:
                break
        self.time_passes_and_the_operator_steps(15.0)
        self.time_passes_and_the_operator_steps(15.0)
        at_rest = world.state
        self.time_passes_and_the_operator_steps(15.0)
        assert at_rest.phase is Phase.STABLE and at_rest.stable is not None, (at_rest, world.cluster.workloads)
        assert at_rest.stable.revision == self.last.revision, at_rest
        assert set(world.cluster.workloads) == {self.last.revision}
        assert world.cluster.ready(self.last.revision) == world.policy.replicas
        assert world.state == at_rest, "a state at rest is written again"

    def _be_fair(self) -> None:
        """Nothing is in the way any more, and the user asks for one thing."""
        world = self.world
        world.paused = world.suspended = world.abort = False
        world.metrics, world.planned = True, None
        world.user = self.last
        world.pods_needed = 1
        world.cluster.route_refuses = False
        if world.policy.strategy in _SCARCE:
            # A single pod can give its room to nobody.
            self.the_user_scales(max(world.policy.replicas, 2))

    def _pass(self, intervals: int) -> None:
        for _ in range(intervals):
            self._tick(15.0)
            self._step(self.world.facts())

    def _tick(self, seconds: float) -> None:
        """Time passes in small pieces, so that pods become ready at times of their own."""
        ready = self.world.cluster.ready()
        self.world.cluster.tick(seconds)
        if self.world.cluster.ready() < ready:
            self.lost_a_pod = True

    def _step(self, facts: RolloutFacts, performed: int | None = None) -> None:
        world, now = self.world, self.world.cluster.now
        before = world.state
        world.state, actions = step(before, facts, now)
        again, same = step(world.state, facts, now)
        assert again == world.state
        assert same == level(actions), "the same facts lead to other actions, or are announced again"
        assert (
            is_allowed(before.phase, world.state.phase) or before.phase is world.state.phase or _chained(before, again)
        )
        wanted = [action for action in actions if isinstance(action, EnsureRevision) and action.replicas != 0]
        assert len({action.revision for action in wanted}) <= 2, "more than one candidate"
        ready, lost = world.cluster.capacity(), world.cluster.lost_traffic()
        world.cluster.perform(actions if performed is None else actions[:performed], whole=performed is None)
        late = world.state.phase is Phase.ROLLING_BACK and now - world.state.since >= world.policy.min_ready_deadline
        if not late:
            least = min(ready, floor(facts, world.state))
            assert world.cluster.capacity() >= least, "a planned change took capacity away"
        if not late and not (world.state.strategy is Strategy.IN_PLACE and world.policy.replicas == 1):
            assert world.cluster.lost_traffic() <= lost, "traffic by weight was sent where no pod is ready"
        if world.state.strategy is Strategy.IN_PLACE and world.state.phase in _ON_TRIAL and not self.room_changed:
            assert world.cluster.pods() <= world.policy.replicas, "a pod is asked for before its room is there"
        self.before, self.lost_a_pod = facts, False


def _chained(before: RolloutState, after: RolloutState) -> bool:
    """One step may go through several phases: a path of transitions leads from one to the other."""
    reached = {before.phase}
    for _ in Phase:
        reached |= {move.target for move in TRANSITIONS if move.source in reached}
    return after.phase in reached


Rollouts.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestRollouts = Rollouts.TestCase


_names = st.sampled_from(["a", "b", "c", "d"])
_times = st.one_of(st.floats(0, 2000), st.sampled_from([0.0, 1000.0, math.inf]))
_configs = st.integers(1, 4).map(lambda number: EngineConfig({"maxNumSeqs": number}))
_carriers = st.sampled_from(["", "", "a", "b"])
_stables = st.builds(Stable, _names, _configs, st.just("t"), _carriers)
_candidates = st.builds(Candidate, _names, _configs, st.just("t"), st.sampled_from(Source), carrier=_carriers)
_decisions = st.builds(Decision, st.just(Reason.ROLLED_BACK), st.sampled_from(Reason), st.text(max_size=5), _times)
_verdicts = st.sampled_from([None, GOOD, BAD, UNKNOWN])
_qualities = st.sampled_from([None, SAME_OUTPUTS, OTHER_OUTPUTS, UNCOMPARED])
_states = st.builds(
    RolloutState,
    phase=st.sampled_from(Phase),
    since=_times,
    stable=st.none() | _stables,
    candidate=st.none() | _candidates,
    previous=st.none() | _stables,
    started_at=_times,
    served_at=st.none() | _times,
    verdict=_verdicts,
    quality=_qualities,
    bad=st.lists(_names, max_size=4).map(tuple),
    decision=st.none() | _decisions,
    moved=st.booleans(),
    paused_at=st.none() | _times,
    strategy=st.sampled_from(Strategy),
    share=st.integers(0, 4),
    plan_starts=st.lists(_times, max_size=3).map(tuple),
)
_pods = st.builds(
    PodFacts,
    name=_names,
    revision=_names,
    ready=st.booleans(),
    terminating=st.booleans(),
    restarts=st.integers(0, 3),
    oom_kills=st.integers(0, 1),
    trouble=st.none() | st.sampled_from(PodTrouble),
    created_at=_times,
    ready_since=st.none() | _times,
    live=st.none() | st.sampled_from(Live),
)
_revisions = st.builds(
    RevisionFacts,
    revision=_names,
    desired=st.integers(0, 5),
    pods=st.lists(_pods, max_size=4).map(tuple),
    message=st.sampled_from(["", "exceeded quota"]),
    settled=st.booleans(),
    owned=st.booleans(),
    runs=st.sampled_from(["", "a", "b"]),
)
_policies = st.builds(
    Policy,
    replicas=st.integers(0, 5),
    canary_replicas=st.integers(0, 6),
    interval=st.floats(0, 60),
    adopted=st.booleans(),
    replicas_owned_elsewhere=st.booleans(),
    strategy=st.none() | st.sampled_from(Strategy),
    shares=st.lists(st.integers(1, 99), max_size=3).map(tuple),
    min_available=st.none() | st.integers(0, 5),
)
_wishes = st.builds(Wish, _configs, st.just("t"), st.sampled_from(Source), _names, live=st.booleans())
_routes = st.builds(
    RouteFacts,
    stable=st.sampled_from(["", "a", "b"]),
    canary=st.sampled_from(["", "a", "b"]),
    least=st.sampled_from([None, 0, 50, 100]),
    most=st.sampled_from([None, 0, 50, 100]),
    obstacle=st.sampled_from([None, Reason.ROUTE_NOT_USABLE]),
)
_facts = st.builds(
    RolloutFacts,
    policy=_policies,
    revisions=st.lists(_revisions, max_size=4).map(lambda found: {item.revision: item for item in found}),
    user=_wishes,
    user_config=_configs,
    planned=st.none() | _wishes,
    verdict=_verdicts,
    quality=_qualities,
    quality_needed=st.booleans(),
    gpus_free=st.none() | st.integers(0, 4),
    gpus_per_pod=st.integers(0, 2),
    paused=st.booleans(),
    suspended=st.booleans(),
    abort=st.booleans(),
    pods_admitted=st.none() | st.integers(0, 3),
    pods_needed=st.none() | st.integers(0, 4),
    pods_protected=st.integers(0, 4),
    served=st.sampled_from(["", "a", "b"]),
    route=st.none() | _routes,
)


@settings(max_examples=600)
@given(state=_states, facts=_facts, now=st.floats(0, 3000))
def test_a_step_is_total_and_idempotent_for_any_state_and_facts(
    state: RolloutState, facts: RolloutFacts, now: float
) -> None:
    after, actions = step(state, facts, now)
    again, same = step(after, facts, now)
    assert again == after
    assert same == level(actions)
    replicas = [action.replicas for action in actions if isinstance(action, EnsureRevision)]
    assert all(number is None or number >= 0 for number in replicas)
    assert next_wake(after, facts.policy, now) > 0
    left_judging = state.phase is Phase.CANARY_JUDGING and after.phase in (Phase.PROMOTING, Phase.WATCHING)
    if left_judging and facts.quality_needed:
        assert after.quality == SAME_OUTPUTS, "promoted without a comparison of outputs"

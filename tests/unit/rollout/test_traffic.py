"""Traffic by weight: the shares of each strategy, and that no share ever points at a backend without pods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.property.simulated_cluster import START_SECONDS, Cluster, Nature, World
from tests.unit.rollout.worlds import Driver, policy, wish
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, RouteFacts, Source, Strategy
from trimtab.rollout import step
from trimtab.rollout.traffic import by_pods


class Routed(Driver):
    """A driver that notes the candidate's share, and fails when traffic is sent where no pod is ready."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.shares: list[int] = []

    def once(self, seconds: float = 15.0) -> tuple[object, ...]:  # type: ignore[override]
        actions = super().once(seconds)
        route = self.world.cluster.route
        assert route is not None and route.most is not None
        if Phase.STABLE in self.phases:
            assert self.world.cluster.lost_traffic() == 0, (self.world.state, route)
        if not self.shares or self.shares[-1] != route.most:
            self.shares.append(route.most)
        return actions


def routed(replicas: int = 4, natures: dict[int, Nature] | None = None, **others: object) -> Routed:
    slots = others.pop("slots", None)
    cluster = Cluster(slots=slots if isinstance(slots, int) else None)
    cluster.natures = {f"rev{number}": nature for number, nature in (natures or {}).items()}
    cluster.route = RouteFacts(least=50, most=50)  # as a route is that names no weights
    driver = Routed(World(cluster, policy=policy(replicas, **others)))
    driver.until_phase(Phase.STABLE)
    driver.once()
    driver.once()
    driver.shares, driver.least_ready = [], 10**6
    return driver


def ended(driver: Routed) -> None:
    driver.until(lambda world: bool(world.state.attempts))
    driver.once()
    driver.once()


def test_at_rest_both_backends_select_stable_and_the_canarys_has_no_share() -> None:
    driver = routed()
    assert driver.world.cluster.route == RouteFacts(stable="rev1", canary="rev1", least=0, most=0)


def test_the_weights_follow_the_steps_also_those_that_come_to_the_same_pods() -> None:
    driver = routed(4, shares=(5, 10, 50), share_seconds=0.0)
    driver.world.user = wish(2)
    ended(driver)
    assert driver.outcome is Reason.PROMOTED
    assert driver.shares[:4] == [0, 5, 10, 50], "each step in its turn"
    assert driver.shares[4:] == [*sorted(driver.shares[4:-1]), 0], "then up to all, and at the end all is stable's"
    assert 100 in driver.shares and driver.least_ready == 4
    assert driver.world.cluster.route == RouteFacts(stable="rev2", canary="rev2", least=0, most=0)


def test_without_steps_every_pod_has_the_same_share() -> None:
    driver = routed(3, {2: Nature.UNDECIDED})
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_JUDGING)
    driver.once()
    assert driver.world.cluster.route is not None
    assert driver.world.cluster.route.most == by_pods(3, 1) == 25


@pytest.mark.parametrize(
    ("nature", "outcome"),
    [
        (Nature.HARMFUL, Reason.ROLLED_BACK),
        (Nature.HARMFUL_LATER, Reason.ROLLED_BACK),
        (Nature.DIES, Reason.ROLLED_BACK),
        (Nature.CRASHES, Reason.ABANDONED),
        (Nature.UNDECIDED, Reason.ROLLED_BACK),
    ],
)
@pytest.mark.parametrize("strategy", [Strategy.CANARY, Strategy.BLUE_GREEN, Strategy.IN_PLACE])
def test_weights_are_restored_before_the_canary_goes(nature: Nature, outcome: Reason, strategy: Strategy) -> None:
    slots = 4 if strategy is Strategy.IN_PLACE else None
    natures: dict[int, Nature] = {2: nature} if nature is not Nature.DIES else {}
    driver = routed(4, natures, strategy=strategy, slots=slots)
    driver.world.user = wish(2)
    if nature is Nature.DIES:
        # A pod that dies takes its share with it until the next look: no order of writes can help there.
        driver.until_phase(Phase.CANARY_JUDGING)
        driver.once()
        driver.world.abort = True
        outcome = Reason.ROLLED_BACK
    ended(driver)
    assert driver.outcome is outcome
    assert driver.world.cluster.route == RouteFacts(stable="rev1", canary="rev1", least=0, most=0)
    assert driver.world.cluster.ready("rev1") == 4


@pytest.mark.parametrize("strategy", [Strategy.CANARY, Strategy.BLUE_GREEN, Strategy.IN_PLACE])
def test_a_promotion_of_each_strategy_never_sends_traffic_to_nobody(strategy: Strategy) -> None:
    driver = routed(3, strategy=strategy, slots=3 if strategy is Strategy.IN_PLACE else None)
    driver.world.user = wish(2)
    ended(driver)
    assert driver.outcome is Reason.PROMOTED
    assert driver.world.cluster.route == RouteFacts(stable="rev2", canary="rev2", least=0, most=0)


def test_a_spec_that_is_taken_back_in_the_middle_restores_the_weights() -> None:
    driver = routed(4, shares=(25, 75), share_seconds=0.0)
    driver.world.user = wish(2)
    driver.until_phase(Phase.SHIFTING)
    driver.once()
    driver.world.user = wish(1)
    ended(driver)
    assert driver.outcome is Reason.WITHDRAWN and driver.least_ready >= 4
    assert driver.world.cluster.route == RouteFacts(stable="rev1", canary="rev1", least=0, most=0)


@pytest.mark.parametrize("comes_back", [True, False])
def test_what_a_rollback_had_to_leave_keeps_the_traffic_until_something_else_serves(comes_back: bool) -> None:
    driver = routed(1)
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_JUDGING)
    cluster = driver.world.cluster
    cluster.natures["rev1"] = Nature.DIES
    driver.world.abort = True
    cluster.tick(START_SECONDS)
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.world.state.phase is Phase.STABLE and (cluster.ready("rev1"), cluster.ready("rev2")) == (0, 1)
    driver.world.abort = False
    driver.once()
    driver.once()
    assert cluster.route == RouteFacts(stable="rev2", canary="rev2", least=0, most=0)
    if comes_back:
        cluster.natures["rev1"] = Nature.GOOD
        cluster.kill("rev1")
        driver.world.user = wish(1)
    else:
        driver.world.user = wish(3)
    serves = "rev1" if comes_back else "rev3"
    wanted = RouteFacts(stable=serves, canary=serves, least=0, most=0)
    driver.until(lambda world: world.cluster.route == wanted and world.state.phase is Phase.STABLE)
    driver.once()
    assert set(cluster.workloads) == {serves} and cluster.ready(serves) == 1


def test_weights_that_somebody_else_holds_end_the_trial_at_its_deadline() -> None:
    driver = routed(4, shares=(25,))
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_STARTING)
    driver.world.cluster.route_refuses = True
    ended(driver)
    attempt = driver.world.state.attempts[0]
    assert attempt.reason is Reason.DEADLINE_EXCEEDED
    assert "did not give the canary its share of 25 %" in attempt.message
    assert attempt.revision not in driver.world.state.bad, "it was not at fault"


def test_a_canary_that_cannot_lose_its_share_stays_until_it_does() -> None:
    driver = routed(4, {2: Nature.UNDECIDED}, shares=(25,))
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_JUDGING)
    driver.once()
    driver.world.cluster.route_refuses = True
    driver.world.abort = True
    driver.until_phase(Phase.ROLLING_BACK)
    for _ in range(20):
        driver.once()
    assert driver.world.state.phase is Phase.ROLLING_BACK and driver.world.cluster.ready("rev2") == 1
    assert "still gives it 25 % of the traffic" in driver.world.state.holding
    driver.world.cluster.route_refuses = False
    driver.world.abort = False
    ended(driver)
    assert driver.world.cluster.ready("rev2") == 0


def test_a_route_that_cannot_be_used_holds_the_next_trial_with_its_reason() -> None:
    driver = routed()
    route = RouteFacts("rev1", "rev1", 0, 0, Reason.ROUTE_NOT_USABLE, "Its first rule has no backend chat-canary.")
    driver.world.user = wish(2)
    driver.world.cluster.route = route
    driver.world.cluster.tick(15.0)
    state, _ = step(driver.world.state, driver.world.facts(), driver.world.cluster.now)
    assert (state.phase, state.held_by) == (Phase.STABLE, Reason.ROUTE_NOT_USABLE)
    assert state.holding == route.message


def test_an_autoscaler_of_one_revision_holds_trials_and_says_where_to_point_it() -> None:
    driver = routed()
    driver.world.planned = wish(2, Source.PLAN)
    facts = replace(driver.world.facts(), revision_scaler="HorizontalPodAutoscaler chat scales one revision.")
    state, _ = step(driver.world.state, facts, driver.world.cluster.now + 15.0)
    assert (state.phase, state.held_by) == (Phase.STABLE, Reason.TARGET_CONFLICT)

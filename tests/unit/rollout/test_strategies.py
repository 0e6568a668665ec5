"""The strategies: a canary's shares, the switch of a blue-green rollout, one pod at a time in place, and the choice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.property.simulated_cluster import Cluster, Nature, World
from tests.unit.rollout.worlds import Driver, adopted_driver, policy, stable_driver, wish
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, ServeOnly, Source, Strategy
from trimtab.rollout import step


def scarce_driver(
    replicas: int = 3, natures: dict[int, Nature] | None = None, drain: float = 10.0, **others: object
) -> Driver:
    """Every GPU is taken by the stable pods."""
    cluster = Cluster(slots=replicas, drain=drain)
    cluster.natures = {f"rev{number}": nature for number, nature in (natures or {}).items()}
    driver = Driver(World(cluster, policy=policy(replicas, strategy=None, drain_seconds=drain, **others)))
    driver.until_phase(Phase.STABLE)
    driver.least_ready = 10**6
    return driver


# Canary with shares.


def test_a_canary_with_shares_is_judged_at_each_of_them() -> None:
    driver = stable_driver(10, shares=(10, 30, 60), share_seconds=60.0)
    driver.world.user = wish(2)
    judged: list[tuple[int, int]] = []
    driver.until_phase(Phase.CANARY_JUDGING)
    while driver.world.state.phase is not Phase.PROMOTING:
        driver.once()
        if driver.world.state.phase is Phase.CANARY_JUDGING:
            cluster = driver.world.cluster
            judged.append((cluster.ready("rev1"), cluster.ready("rev2")))
    assert sorted(set(judged), key=judged.index) == [(10, 1), (7, 3), (4, 6)]
    assert all(judged.count(share) >= 2 for share in set(judged)), "each share is held for its time"
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.outcome is Reason.PROMOTED and driver.least_ready >= 10
    assert driver.phases.count(Phase.SHIFTING) == 2


@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
def test_shares_take_no_more_room_than_the_first_one_and_keep_all_capacity(replicas: int) -> None:
    driver = stable_driver(replicas, shares=(5, 50, 95), share_seconds=0.0)
    driver.world.user = wish(2)
    most = 0
    while driver.world.state.phase is not Phase.WATCHING:
        driver.once()
        most = max(most, driver.world.cluster.pods())
        if driver.world.state.phase is Phase.CANARY_JUDGING:
            assert driver.world.cluster.ready("rev1") >= 1, "a stable pod stays to compare with"
    assert driver.least_ready == replicas and most == replicas + 1


def test_shares_that_come_to_the_same_pods_are_judged_once() -> None:
    driver = stable_driver(2, shares=(5, 25, 50), share_seconds=0.0)
    driver.world.user = wish(2)
    driver.until_phase(Phase.WATCHING)
    assert Phase.SHIFTING not in driver.phases


def test_harm_that_shows_at_a_larger_share_restores_all_stable_pods() -> None:
    driver = stable_driver(4, shares=(25, 75), share_seconds=0.0)
    driver.world.user = wish(2)
    driver.until_phase(Phase.SHIFTING)
    driver.world.cluster.natures["rev2"] = Nature.HARMFUL
    driver.until(lambda world: bool(world.state.attempts))
    assert (driver.outcome, driver.world.state.attempts[0].reason) == (Reason.ROLLED_BACK, Reason.SLO_REGRESSION)
    assert driver.least_ready >= 4 and driver.world.cluster.ready("rev1") == 4


def test_the_copy_of_an_adopted_workload_grows_beside_it() -> None:
    driver = adopted_driver()
    driver.world.policy = replace(driver.world.policy, shares=(25, 50), share_seconds=0.0)
    driver.world.planned = wish(2, Source.PLAN)
    driver.until_phase(Phase.SHIFTING)
    driver.until_phase(Phase.CANARY_JUDGING)
    assert driver.world.cluster.ready("rev2") == 2
    assert driver.world.cluster.workloads["target"].runs == "rev1" and not driver.world.state.moved
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.outcome is Reason.PROMOTED and driver.least_ready >= 2


# BlueGreen.


def test_blue_green_switches_all_traffic_at_once_and_keeps_the_old_pods_until_the_watch_ends() -> None:
    driver = stable_driver(3, strategy=Strategy.BLUE_GREEN)
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_JUDGING)
    assert driver.world.cluster.ready("rev2") == 3 and driver.world.cluster.served == ""
    driver.until_phase(Phase.WATCHING)
    assert driver.world.cluster.served == "rev2"
    assert driver.world.cluster.ready("rev1") == 3
    driver.until_phase(Phase.STABLE)
    driver.once()
    driver.once()
    assert set(driver.world.cluster.workloads) == {"rev2"} and driver.world.cluster.served == ""


def test_blue_green_goes_back_by_a_switch_before_the_new_pods_go() -> None:
    driver = stable_driver(3, natures={2: Nature.HARMFUL_LATER}, strategy=Strategy.BLUE_GREEN)
    driver.world.user = wish(2)
    driver.until_phase(Phase.ROLLING_BACK)
    assert driver.world.cluster.served == "rev1" and driver.world.cluster.capacity() == 3
    driver.until_phase(Phase.STABLE)
    driver.once()
    assert driver.outcome is Reason.ROLLED_BACK
    assert set(driver.world.cluster.workloads) == {"rev1"} and driver.least_ready >= 3


def test_old_pods_help_when_promoted_ones_are_lost_during_the_watch() -> None:
    driver = stable_driver(2, strategy=Strategy.BLUE_GREEN)
    driver.world.user = wish(2)
    driver.until_phase(Phase.WATCHING)
    driver.world.cluster.kill("rev2")
    actions = driver.once(1.0)
    assert not any(isinstance(action, ServeOnly) for action in actions)
    assert driver.world.cluster.capacity() == 3


def test_a_pause_holds_the_switch() -> None:
    driver = stable_driver(2, strategy=Strategy.BLUE_GREEN)
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_JUDGING)
    driver.world.paused = True
    for _ in range(5):
        driver.once()
    assert driver.world.cluster.served == ""
    driver.world.paused = False
    driver.until_phase(Phase.WATCHING)


def test_blue_green_needs_room_for_all_pods() -> None:
    driver = stable_driver(3, strategy=Strategy.BLUE_GREEN)
    driver.world.gpus_free, driver.world.gpus_per_pod = 5, 2
    driver.world.user = wish(2)
    driver.once()
    assert driver.world.state.held_by is Reason.INSUFFICIENT_GPUS
    assert "needs 6 GPUs beside the stable pods and 5 are free" in driver.world.state.holding


# InPlace.


@pytest.mark.parametrize("drain", [0.0, 10.0, 40.0])
@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_in_place_replaces_one_pod_at_a_time_and_never_asks_for_more_room(replicas: int, drain: float) -> None:
    driver = scarce_driver(replicas, drain=drain)
    driver.world.user = wish(2)
    while driver.world.state.phase is not Phase.WATCHING:
        driver.once()
        assert driver.world.cluster.pods() <= replicas
    assert driver.least_ready == replicas - 1
    assert driver.world.state.strategy is Strategy.IN_PLACE
    driver.until_phase(Phase.STABLE)
    driver.once()
    assert set(driver.world.cluster.workloads) == {"rev2"} and driver.world.cluster.ready() == replicas


@pytest.mark.parametrize("nature", [Nature.HARMFUL, Nature.HARMFUL_LATER, Nature.CRASHES, Nature.NEVER_READY])
def test_in_place_gives_the_room_back_one_pod_at_a_time(nature: Nature) -> None:
    driver = scarce_driver(3, {2: nature})
    driver.world.user = wish(2)
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.outcome in (Reason.ROLLED_BACK, Reason.ABANDONED)
    driver.once()
    assert driver.world.cluster.ready("rev1") == 3 and set(driver.world.cluster.workloads) == {"rev1"}
    assert driver.least_ready >= 2


def test_a_single_pod_is_not_taken_away_for_a_trial_unless_the_spec_allows_it() -> None:
    driver = scarce_driver(1)
    driver.world.user = wish(2)
    for _ in range(5):
        driver.once()
    state = driver.world.state
    assert state.phase is Phase.STABLE and state.held_by is Reason.INSUFFICIENT_GPUS
    assert "1 of 1 pod must stay ready and 1 are" in state.holding and "spec.rollout.minAvailable" in state.holding
    driver.world.policy = replace(driver.world.policy, min_available=0)
    driver.world.pods_needed = 0
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.outcome is Reason.PROMOTED


@pytest.mark.parametrize(("needed", "words"), [(3, "needs 3 ready pods of the 3"), (None, "cannot be read")])
def test_in_place_waits_for_a_load_that_fewer_pods_can_carry(needed: int | None, words: str) -> None:
    driver = scarce_driver(3)
    driver.world.pods_needed = needed
    driver.world.user = wish(2)
    for _ in range(3):
        driver.once()
    assert driver.world.state.phase is Phase.STABLE and words in driver.world.state.holding
    driver.world.pods_needed = 1
    driver.until_phase(Phase.PROMOTING)
    driver.world.pods_needed = 3
    driver.once(5.0)
    before = driver.world.cluster.workloads["rev1"].desired
    driver.once(30.0)
    driver.once(30.0)
    assert driver.world.cluster.workloads["rev1"].desired == before
    assert "the load needs 3" in driver.world.state.holding


def test_a_pod_that_does_not_serve_gives_its_room_to_a_corrected_spec() -> None:
    driver = scarce_driver(1)
    driver.world.cluster.natures["rev1"] = Nature.NEVER_READY
    driver.world.cluster.kill("rev1")
    driver.once()
    driver.world.user = wish(2)
    driver.world.pods_needed = None
    driver.until(lambda world: world.cluster.ready("rev2") == 1)
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.outcome is Reason.PROMOTED


def test_a_disruption_budget_is_kept_in_place() -> None:
    driver = scarce_driver(3)
    facts = replace(driver.world.facts(), pods_protected=3, user=wish(2))
    state, _ = step(driver.world.state, facts, driver.world.cluster.now + 1.0)
    assert state.phase is Phase.STABLE and "PodDisruptionBudget" in state.holding


# Auto.


def test_auto_takes_a_canary_where_there_is_room_and_says_why() -> None:
    driver = stable_driver(2, strategy=None)
    driver.world.gpus_free, driver.world.gpus_per_pod = 4, 2
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_STARTING)
    assert driver.world.state.strategy is Strategy.CANARY
    said = next(item for item in driver.said if item.reason is Reason.CANARY_STARTING)
    assert "Strategy Canary, because 4 GPUs are free and it needs 2." in said.message


def test_auto_goes_in_place_where_a_quota_admits_no_further_pod() -> None:
    driver = stable_driver(2, strategy=None)
    driver.world.pods_admitted = 0
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_STARTING)
    assert driver.world.state.strategy is Strategy.IN_PLACE
    assert driver.world.state.strategy_because == "there is no room beside the 2 stable pods, and 1 must stay ready"


def test_a_canary_that_a_quota_would_refuse_is_not_begun() -> None:
    driver = stable_driver(2)
    driver.world.pods_admitted = 0
    driver.world.user = wish(2)
    driver.once()
    assert driver.world.state.held_by is Reason.QUOTA_EXCEEDED and driver.world.state.attempts == ()
    assert "needs 1 pod beside the stable ones and the quota admits 0 more" in driver.world.state.holding


def test_auto_goes_in_place_after_a_canary_that_no_node_had_room_for() -> None:
    driver = stable_driver(2, natures={2: Nature.REFUSED}, strategy=None)
    driver.world.user = wish(2)
    driver.until(lambda world: len(world.state.attempts) == 1)
    assert driver.world.state.attempts[0].reason is Reason.QUOTA_EXCEEDED
    driver.world.cluster.natures.clear()
    driver.until(lambda world: len(world.state.attempts) == 2)
    assert driver.world.state.strategy is Strategy.IN_PLACE and driver.outcome is Reason.PROMOTED

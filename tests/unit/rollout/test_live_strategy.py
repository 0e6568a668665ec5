"""Live: running pods take other values, a few first and then all; the way back, and what is not done this way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.property.simulated_cluster import Cluster, Nature, World
from tests.unit.rollout.worlds import Driver, policy, stable_driver, wish
from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.model.rollout import EnsureRevision, Phase, ServeOnly, Source, Strategy, TuneLive
from trimtab.rollout import step


def live_driver(replicas: int = 3, natures: dict[str, Nature] | None = None, **others: object) -> Driver:
    """A deployment of an engine with live knobs, whose first revision, `rev1`, serves."""
    cluster = Cluster()
    cluster.live, cluster.natures = True, natures or {}
    driver = Driver(World(cluster, policy=policy(replicas, **others)))
    driver.until_phase(Phase.STABLE)
    driver.least_ready = 10**6
    return driver


def values(driver: Driver) -> dict[str, str]:
    """Pod -> the revision whose values it was given."""
    pods = [pod for workload in driver.world.cluster.workloads.values() for pod in workload.pods]
    return {pod.name: pod.runs or pod.revision for pod in pods}


def test_a_few_pods_take_the_values_first_and_then_all_and_no_pod_is_new() -> None:
    driver = live_driver()
    before, shares = set(values(driver)), []
    driver.world.user = wish(1, active=5)
    while driver.world.state.phase is not Phase.WATCHING:
        driver.once()
        shares.append(sum(runs == "rev1-5" for runs in values(driver).values()))
    assert shares == sorted(shares) and set(shares) == {0, 1, 3} - ({0} - set(shares))
    driver.until(lambda world: bool(world.state.attempts))
    stable = driver.world.state.stable
    assert driver.world.state.strategy is Strategy.LIVE
    assert stable is not None and (stable.revision, stable.carrier) == ("rev1-5", "rev1")
    assert (set(values(driver)), driver.world.cluster.created) == (before, 3)
    assert (driver.outcome, driver.least_ready) == (Reason.PROMOTED, 3)
    assert set(driver.world.cluster.workloads) == {"rev1"}
    assert "rev1-5 for the spec: maxNumActiveSeqs default -> 5" in driver.said[2].message


@pytest.mark.parametrize(
    ("nature", "reason", "outcome"),
    [
        (Nature.HARMFUL, Reason.SLO_REGRESSION, Reason.ROLLED_BACK),
        (Nature.HARMFUL_LATER, Reason.SLO_REGRESSION, Reason.ROLLED_BACK),
        (Nature.UNDECIDED, Reason.DEADLINE_EXCEEDED, Reason.ROLLED_BACK),
        (Nature.LIVE_REFUSED, Reason.LIVE_REFUSED, Reason.ABANDONED),
        (Nature.NEVER_READY, Reason.DEADLINE_EXCEEDED, Reason.ABANDONED),
    ],
)
def test_values_that_are_not_good_are_taken_back_from_every_pod(
    nature: Nature, reason: Reason, outcome: Reason
) -> None:
    driver = live_driver(natures={"rev1-5": nature})
    driver.world.planned = wish(1, Source.PLAN, 5)
    driver.until(lambda world: bool(world.state.attempts))
    assert (driver.outcome, driver.world.state.attempts[0].reason) == (outcome, reason)
    assert set(values(driver).values()) == {"rev1"} and driver.world.cluster.created == 3
    assert driver.least_ready == 3
    assert ("rev1-5" in driver.world.state.bad) == (reason is not Reason.DEADLINE_EXCEEDED)


def test_a_rollback_is_over_when_the_engines_say_that_they_have_the_old_values() -> None:
    driver = live_driver(natures={"rev1-5": Nature.HARMFUL})
    driver.world.user = wish(1, active=5)
    driver.until_phase(Phase.ROLLING_BACK)
    driver.once(1.0)
    driver.once(1.0)
    assert set(values(driver).values()) == {"rev1"}
    assert driver.phases[-1:] == [Phase.ROLLING_BACK], "the values are written and not yet in force"
    driver.once(10.0)
    assert driver.phases[-1:] == [Phase.STABLE]


def test_a_new_pod_gets_the_values_of_the_revision_that_serves() -> None:
    driver = live_driver()
    driver.world.user = wish(1, active=5)
    driver.until(lambda world: bool(world.state.attempts))
    driver.world.cluster.kill("rev1")
    assert sorted(values(driver).values()) == ["rev1", "rev1-5", "rev1-5"]
    driver.once()
    assert set(values(driver).values()) == {"rev1-5"}


def test_a_change_of_more_than_live_values_starts_new_pods_and_takes_both_along() -> None:
    driver = live_driver()
    driver.world.user = wish(1, active=5)
    driver.until(lambda world: len(world.state.attempts) == 1)
    driver.world.user = wish(2, active=6)
    driver.until(lambda world: len(world.state.attempts) == 2)
    driver.once()
    assert driver.world.state.strategy is Strategy.CANARY and driver.outcome is Reason.PROMOTED
    assert set(driver.world.cluster.workloads) == {"rev2-6"} and driver.least_ready == 3


def test_values_that_go_back_to_those_of_the_pods_own_revision_leave_no_carrier() -> None:
    driver = live_driver()
    driver.world.user = wish(1, active=5)
    driver.until(lambda world: len(world.state.attempts) == 1)
    driver.world.user = wish(1)
    driver.until(lambda world: len(world.state.attempts) == 2)
    stable = driver.world.state.stable
    assert stable is not None and (stable.revision, stable.carrier) == ("rev1", "")
    assert set(values(driver).values()) == {"rev1"} and driver.world.cluster.created == 3


def test_a_single_pod_has_none_to_be_compared_with_so_a_new_one_is_started() -> None:
    driver = live_driver(1)
    driver.world.user = wish(1, active=5)
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.world.state.strategy is Strategy.CANARY and driver.outcome is Reason.PROMOTED


def test_the_way_back_waits_where_the_pods_are_of_that_revision_and_only_one_is_left() -> None:
    driver = live_driver(2)
    driver.world.user = wish(1, active=5)
    driver.until(lambda world: len(world.state.attempts) == 1)
    driver.world.policy = replace(driver.world.policy, replicas=1)
    driver.world.user = wish(1)
    for _ in range(5):
        driver.once()
    assert driver.world.state.held_by is Reason.INSUFFICIENT_CAPACITY
    assert "raise spec.replicas" in driver.world.state.holding
    driver.world.policy = replace(driver.world.policy, replicas=2)
    driver.until(lambda world: len(world.state.attempts) == 2)
    assert driver.outcome is Reason.PROMOTED


def test_traffic_that_goes_to_one_revision_goes_to_the_workload_that_its_pods_are_of() -> None:
    driver = live_driver(2, strategy=Strategy.BLUE_GREEN)
    driver.world.user = wish(1, active=5)
    driver.until(lambda world: len(world.state.attempts) == 1)
    driver.world.user = wish(2, active=5)
    driver.world.cluster.natures["rev2-5"] = Nature.HARMFUL_LATER
    driver.until_phase(Phase.ROLLING_BACK)
    actions = driver.once()
    assert ServeOnly("rev1") in actions
    assert driver.least_ready >= 2


def test_an_engine_without_live_knobs_is_never_tuned() -> None:
    driver = stable_driver(3)
    driver.world.user = wish(1, active=5)
    while not driver.world.state.attempts:
        driver.once()
        _, actions = step(driver.world.state, driver.world.facts(), driver.world.cluster.now)
        assert not any(isinstance(action, TuneLive) for action in actions)
    assert driver.world.state.strategy is Strategy.CANARY


def test_a_revision_that_has_a_workload_of_its_own_is_tried_there() -> None:
    driver = live_driver(2)
    cluster = driver.world.cluster
    cluster.perform([EnsureRevision("rev1-5", EngineConfig({}), "t", 1)])
    driver.world.user = wish(1, active=5)
    driver.until(lambda world: bool(world.state.attempts))
    stable = driver.world.state.stable
    assert driver.world.state.strategy is Strategy.CANARY and driver.outcome is Reason.PROMOTED
    assert stable is not None and (stable.revision, stable.carrier) == ("rev1-5", "")

"""Workloads of ours that no state knows: what serves of them is kept, and what the spec asks for is tried beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.property.simulated_cluster import START_SECONDS, Cluster, Nature, World
from tests.unit.rollout.worlds import Driver, policy, stable_driver, wish
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, RemoveRevision, RolloutState, Source, Stable
from trimtab.rollout import step


def without_a_status(driver: Driver) -> None:
    """The plan's revision serves, and what was known of it is lost."""
    driver.world.planned = wish(16, Source.PLAN)
    driver.until_phase(Phase.WATCHING)
    driver.world.planned = None
    driver.world.state = RolloutState()
    driver.least_ready, driver.phases = 10**6, []


def test_a_lost_status_never_takes_away_pods_that_serve_and_the_spec_is_tried_beside_them() -> None:
    driver = stable_driver()
    without_a_status(driver)
    driver.once()
    assert driver.world.state.stable == Stable("rev16", wish(16).config, "t")
    driver.until(lambda world: bool(world.state.attempts))
    driver.until_phase(Phase.STABLE)
    driver.once()
    assert driver.outcome is Reason.PROMOTED and Phase.CANARY_JUDGING in driver.phases
    assert driver.least_ready == 2 and set(driver.world.cluster.workloads) == {"rev1"}


def left_by_a_crash(natures: dict[int, Nature] | None = None) -> Driver:
    """Room for two pods. The spec is edited before they are ready, and the operator dies before it replaces them."""
    cluster = Cluster(slots=2)
    cluster.natures = {f"rev{number}": nature for number, nature in (natures or {}).items()}
    driver = Driver(World(cluster, policy=policy(2, strategy=None)))
    driver.once(0.0)
    driver.world.user = wish(2)
    cluster.tick(1.0)
    driver.world.state, _ = step(driver.world.state, driver.world.facts(), cluster.now)
    assert driver.world.state.stable is not None and driver.world.state.stable.revision == "rev2"
    cluster.tick(START_SECONDS)
    assert cluster.ready("rev1") == 2
    driver.least_ready = 10**6
    return driver


def test_what_a_crash_left_is_stable_once_it_serves_and_the_edit_is_a_trial_that_finds_its_room() -> None:
    driver = left_by_a_crash()
    driver.once()
    assert driver.world.state.stable is not None and driver.world.state.stable.revision == "rev1"
    assert "left and serves" in driver.said[-1].message
    driver.until(lambda world: bool(world.state.attempts))
    driver.until_phase(Phase.STABLE)
    driver.once()
    assert driver.outcome is Reason.PROMOTED and driver.least_ready >= 1
    assert set(driver.world.cluster.workloads) == {"rev2"} and driver.world.cluster.ready("rev2") == 2


def test_an_edit_that_is_bad_takes_no_capacity_from_what_a_crash_left() -> None:
    driver = left_by_a_crash({2: Nature.CRASHES})
    driver.until(lambda world: bool(world.state.attempts))
    for _ in range(10):
        driver.once()
    assert driver.outcome is Reason.ABANDONED and driver.least_ready >= 1
    assert set(driver.world.cluster.workloads) == {"rev1"} and driver.world.cluster.ready("rev1") == 2


@pytest.mark.parametrize("known_as_bad", [True, False])
def test_what_is_left_of_a_bad_revision_or_cannot_be_read_is_neither_stable_nor_taken_away(known_as_bad: bool) -> None:
    driver = left_by_a_crash()
    state, facts = driver.world.state, driver.world.facts()
    left = facts.revision("rev1")
    state = replace(state, bad=("rev1",) if known_as_bad else ())
    left = left if known_as_bad else replace(left, made_for=None)
    facts = replace(facts, revisions={**facts.revisions, "rev1": left})
    after, actions = step(state, facts, driver.world.cluster.now)
    assert (after.phase, after.stable) == (Phase.STARTING, state.stable)
    assert RemoveRevision("rev1") not in actions

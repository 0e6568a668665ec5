"""When the next step is worth taking, and what a rest state writes: nothing."""

from __future__ import annotations

import pytest

from tests.unit.rollout.worlds import stable_driver, wish
from trimtab.model.rollout import Phase, Policy, RolloutState
from trimtab.rollout import next_wake

_POLICY = Policy(replicas=2, interval=15.0, watch_seconds=100.0)


@pytest.mark.parametrize(
    ("state", "now", "seconds"),
    [
        pytest.param(RolloutState(phase=Phase.STABLE, since=10.0), 500.0, 15.0, id="at rest, an interval"),
        pytest.param(RolloutState(phase=Phase.STABLE, since=10.0), 10.0, 1.0, id="just begun, newer facts soon"),
        pytest.param(RolloutState(phase=Phase.WATCHING, since=0.0), 96.0, 4.0, id="up to the end of the watch"),
        pytest.param(RolloutState(phase=Phase.WATCHING, since=0.0), 99.9, 1.0, id="never busy"),
        pytest.param(RolloutState(phase=Phase.WATCHING, since=0.0), 130.0, 15.0, id="the deadline is over"),
        pytest.param(
            RolloutState(phase=Phase.WATCHING, since=0.0, paused_at=50.0), 96.0, 15.0, id="a pause has no deadline"
        ),
    ],
)
def test_the_next_look(state: RolloutState, now: float, seconds: float) -> None:
    assert next_wake(state, _POLICY, now) == pytest.approx(seconds)


def test_a_deployment_at_rest_has_the_same_state_and_actions_for_hours() -> None:
    driver = stable_driver()
    driver.once()
    state, actions = driver.world.state, driver.once()
    for _ in range(500):
        assert driver.once() == actions
        assert driver.world.state == state


def test_what_holds_a_trial_is_said_in_words_that_change_only_with_the_facts() -> None:
    driver = stable_driver()
    driver.world.user = wish(2)
    driver.world.metrics = False
    driver.until_phase(Phase.CANARY_JUDGING)
    driver.once()
    held = driver.world.state
    driver.once()
    assert driver.world.state == held
    assert held.holding == "3 of 30 requests seen. Undecided after 180 s is a rollback."

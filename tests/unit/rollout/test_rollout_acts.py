"""The acts of a rollout, driven through a simulated cluster: what is tried, kept, restored and remembered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.property.simulated_cluster import GOOD, SAME_OUTPUTS, UNCOMPARED, Cluster, Nature, World
from tests.unit.rollout.worlds import Driver, adopted_driver, policy, stable_driver, wish
from trimtab.model.reason import Reason
from trimtab.model.rollout import EnsureRevision, Phase, ReconfigureTarget, RemoveRevision, RolloutState, Source
from trimtab.model.verdict import Verdict
from trimtab.rollout import step


def test_the_first_revision_starts_without_a_canary() -> None:
    driver = stable_driver()
    assert driver.phases == [Phase.STARTING, Phase.STABLE]
    assert driver.reasons() == [Reason.STARTING, Reason.STABLE]
    assert driver.world.cluster.ready("rev1") == 2


def test_a_first_revision_that_cannot_start_is_explained_and_replaced_by_a_corrected_spec() -> None:
    cluster = Cluster()
    cluster.natures["rev1"] = Nature.CRASHES
    driver = Driver(World(cluster, policy=policy()))
    for _ in range(5):
        driver.once()
    assert driver.world.state.phase is Phase.STARTING
    assert "CrashLoop" in driver.world.state.holding and "--block-size" in driver.world.state.holding
    driver.world.user = wish(2)
    driver.until_phase(Phase.STABLE)
    driver.once()
    assert set(cluster.workloads) == {"rev2"}
    assert driver.world.state.attempts == ()


def test_a_spec_edited_while_the_first_pods_serve_is_tried_on_a_canary() -> None:
    driver = Driver(World(Cluster(), policy=policy(2)))
    driver.once()
    driver.world.cluster.tick(30)
    assert driver.world.cluster.ready("rev1") == 2
    assert driver.world.state.phase is Phase.STARTING
    driver.least_ready = 2
    driver.world.user = wish(2)
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.outcome is Reason.PROMOTED
    assert Phase.CANARY_JUDGING in driver.phases
    assert driver.least_ready >= 2


def test_a_good_plan_is_promoted_and_the_old_revision_removed() -> None:
    driver = stable_driver()
    driver.world.planned = wish(16, Source.PLAN)
    driver.until_phase(Phase.WATCHING)
    assert driver.world.cluster.workloads["rev1"].desired == 0
    driver.world.planned = None
    driver.until_phase(Phase.STABLE)
    driver.once()
    assert driver.phases[1:] == [
        Phase.STABLE,
        Phase.CANARY_STARTING,
        Phase.CANARY_JUDGING,
        Phase.PROMOTING,
        Phase.WATCHING,
        Phase.STABLE,
    ]
    assert set(driver.world.cluster.workloads) == {"rev16"}
    assert driver.least_ready == 2
    attempt = driver.world.state.attempts[0]
    assert (attempt.outcome, attempt.reason, attempt.plan) == (Reason.PROMOTED, Reason.WITHIN_SLO, "plan-16")
    assert attempt.served_at is not None and attempt.started_at < attempt.served_at <= attempt.decided_at
    assert attempt.decided_at < attempt.ended_at
    assert attempt.measured == {"canary.requests": 100.0}


@pytest.mark.parametrize("replicas", [1, 2, 3, 5])
@pytest.mark.parametrize("canaries", [1, 2])
def test_a_promotion_keeps_all_capacity_and_needs_no_more_room_than_the_canary(replicas: int, canaries: int) -> None:
    driver = stable_driver(replicas, canary_replicas=canaries)
    driver.world.user = wish(2)
    most = 0
    while driver.world.state.phase is not Phase.WATCHING:
        driver.once()
        most = max(most, sum(len(found.pods) for found in driver.world.cluster.workloads.values()))
    assert driver.least_ready == replicas
    assert most <= replicas + canaries


@pytest.mark.parametrize(
    ("nature", "outcome", "reason"),
    [
        (Nature.HARMFUL, Reason.ROLLED_BACK, Reason.SLO_REGRESSION),
        (Nature.HARMFUL_LATER, Reason.ROLLED_BACK, Reason.SLO_REGRESSION),
        (Nature.DIES, Reason.ROLLED_BACK, Reason.CANARY_CRASH_LOOP),
        (Nature.CRASHES, Reason.ABANDONED, Reason.CANARY_CRASH_LOOP),
        (Nature.NEVER_READY, Reason.ABANDONED, Reason.CANARY_NOT_READY),
    ],
)
@pytest.mark.parametrize("source", list(Source))
def test_a_failing_configuration_is_taken_away_and_never_tried_again(
    nature: Nature, outcome: Reason, reason: Reason, source: Source
) -> None:
    driver = stable_driver(natures={16: nature}, watch_seconds=120.0)
    if source is Source.USER:
        driver.world.user = wish(16)
    else:
        driver.world.planned = wish(16, Source.PLAN)
    driver.until(lambda world: bool(world.state.attempts))
    if nature is not Nature.DIES:  # promoted pods that die take their own capacity with them
        assert driver.least_ready >= 2
    for _ in range(100):
        driver.once()
    state = driver.world.state
    assert [(attempt.outcome, attempt.reason) for attempt in state.attempts] == [(outcome, reason)]
    assert state.bad == ("rev16",)
    assert state.stable is not None and state.stable.revision == "rev1"
    assert driver.world.cluster.ready("rev1") == 2 and set(driver.world.cluster.workloads) == {"rev1"}
    assert "rev16 failed before" in state.holding and reason.value in state.holding
    assert ("spec.engine.config" in state.holding) == (source is Source.USER)


@pytest.mark.parametrize(
    ("nature", "reason"),
    [
        (Nature.DOES_NOT_FIT, Reason.CANARY_UNSCHEDULABLE),
        (Nature.REFUSED, Reason.QUOTA_EXCEEDED),
        (Nature.UNDECIDED, Reason.DEADLINE_EXCEEDED),
    ],
)
def test_what_its_surroundings_ended_is_tried_again_with_a_back_off_that_doubles(
    nature: Nature, reason: Reason
) -> None:
    driver = stable_driver(natures={2: nature})
    driver.world.user = wish(2)
    driver.until(lambda world: len(world.state.attempts) == 3)
    state = driver.world.state
    assert {attempt.reason for attempt in state.attempts} == {reason}
    assert state.bad == ()
    third, second, first = state.attempts
    assert 300.0 <= second.started_at - first.ended_at < 600.0
    assert 600.0 <= third.started_at - second.ended_at < 1200.0
    assert driver.least_ready == 2
    driver.world.cluster.natures.clear()
    driver.until(lambda world: world.state.attempts[0].outcome is Reason.PROMOTED, limit=400)


def test_only_three_intervals_pass_from_serving_to_the_end_of_a_harmful_change() -> None:
    driver = stable_driver(natures={16: Nature.HARMFUL})
    driver.world.user = wish(16)
    driver.until_phase(Phase.CANARY_JUDGING)
    for _ in range(3):
        driver.once()
    assert driver.world.state.phase is Phase.STABLE
    assert driver.world.cluster.ready("rev16") == 0


def test_an_unschedulable_pod_has_a_short_grace() -> None:
    driver = stable_driver(natures={2: Nature.DOES_NOT_FIT})
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_STARTING)
    began = driver.world.cluster.now
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.world.cluster.now - began >= 30.0


def test_three_edits_in_ten_seconds_end_in_the_last_one() -> None:
    driver = stable_driver()
    for number in (2, 3, 4):
        driver.world.user = wish(number)
        driver.once(3.0)
    driver.until(lambda world: world.state.stable is not None and world.state.stable.revision == "rev4")
    driver.until_phase(Phase.STABLE)
    driver.once()
    outcomes = [(attempt.revision, attempt.outcome) for attempt in reversed(driver.world.state.attempts)]
    assert outcomes == [("rev2", Reason.SUPERSEDED), ("rev4", Reason.PROMOTED)]
    assert driver.world.state.bad == () and set(driver.world.cluster.workloads) == {"rev4"}
    assert driver.least_ready == 2


@pytest.mark.parametrize("phase", [Phase.CANARY_STARTING, Phase.CANARY_JUDGING, Phase.PROMOTING, Phase.WATCHING])
def test_going_back_to_what_ran_before_withdraws_the_trial(phase: Phase) -> None:
    driver = stable_driver(3)
    driver.world.user = wish(2)
    driver.until_phase(phase)
    driver.world.user = wish(1)
    driver.until(lambda world: bool(world.state.attempts))
    for _ in range(5):
        driver.once()
    assert driver.outcome is Reason.WITHDRAWN
    assert driver.world.state.bad == ()
    assert driver.world.state.holding == ""
    assert driver.world.cluster.ready("rev1") == 3 and set(driver.world.cluster.workloads) == {"rev1"}
    assert driver.least_ready == 3


def test_a_users_wish_ends_a_trial_of_a_plan_and_comes_next() -> None:
    driver = stable_driver()
    driver.world.planned = wish(16, Source.PLAN)
    driver.until_phase(Phase.CANARY_JUDGING)
    driver.world.user = wish(2)
    driver.world.planned = None
    driver.until(lambda world: len(world.state.attempts) == 2)
    outcomes = [(attempt.revision, attempt.outcome) for attempt in driver.world.state.attempts]
    assert outcomes == [("rev2", Reason.PROMOTED), ("rev16", Reason.SUPERSEDED)]


def test_a_new_wish_during_the_watch_waits_until_it_ends() -> None:
    driver = stable_driver()
    driver.world.user = wish(2)
    driver.until_phase(Phase.WATCHING)
    driver.world.user = wish(3)
    driver.once()
    assert driver.world.state.phase is Phase.WATCHING
    assert "Then the spec's new configuration is tried" in driver.world.state.holding
    driver.until(lambda world: len(world.state.attempts) == 2)
    assert [attempt.outcome for attempt in driver.world.state.attempts] == [Reason.PROMOTED, Reason.PROMOTED]


@pytest.mark.parametrize("phase", [Phase.CANARY_STARTING, Phase.CANARY_JUDGING, Phase.PROMOTING, Phase.WATCHING])
def test_a_person_can_roll_back_in_every_phase_of_a_trial(phase: Phase) -> None:
    driver = stable_driver(3)
    driver.world.planned = wish(2, Source.PLAN)
    driver.until_phase(phase)
    driver.world.abort = True
    driver.until(lambda world: bool(world.state.attempts))
    for _ in range(50):
        driver.once()
    assert [attempt.reason for attempt in driver.world.state.attempts] == [Reason.ROLLED_BACK_BY_USER]
    assert driver.world.state.bad == ("rev2",)
    assert driver.world.cluster.ready("rev1") == 3 and driver.least_ready == 3


@pytest.mark.parametrize("phase", [Phase.CANARY_STARTING, Phase.CANARY_JUDGING, Phase.PROMOTING, Phase.WATCHING])
def test_a_pause_holds_every_phase_and_its_time_does_not_count(phase: Phase) -> None:
    driver = stable_driver(3)
    driver.world.user = wish(2)
    driver.until_phase(phase)
    driver.world.paused = True
    driver.once()
    workloads = {name: workload.desired for name, workload in driver.world.cluster.workloads.items()}
    for _ in range(100):
        driver.once()
    assert driver.world.state.phase is phase
    assert driver.world.state.holding.startswith(f"Paused in {phase.value}")
    assert {name: workload.desired for name, workload in driver.world.cluster.workloads.items()} == workloads
    driver.world.paused = False
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.outcome is Reason.PROMOTED and driver.least_ready == 3


def test_a_pause_does_not_protect_a_harmful_canary() -> None:
    driver = stable_driver(natures={2: Nature.HARMFUL})
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_STARTING)
    driver.world.paused = True
    for _ in range(10):
        driver.once()
    assert driver.world.state.phase is Phase.CANARY_STARTING
    driver.world.paused = False
    driver.until_phase(Phase.CANARY_JUDGING)
    driver.world.paused = True
    driver.until_phase(Phase.STABLE)
    assert driver.outcome is Reason.ROLLED_BACK


def test_suspending_ends_the_trial_and_nothing_new_starts() -> None:
    driver = stable_driver()
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_JUDGING)
    driver.world.suspended = True
    for _ in range(10):
        driver.once()
    attempt = driver.world.state.attempts[0]
    assert (attempt.outcome, attempt.reason) == (Reason.WITHDRAWN, Reason.SUSPENDED)
    assert driver.world.state.phase is Phase.STABLE and "suspended" in driver.world.state.holding
    assert driver.world.cluster.ready("rev1") == 2 and set(driver.world.cluster.workloads) == {"rev1"}
    driver.world.suspended = False
    driver.until(lambda world: len(world.state.attempts) == 2)
    assert driver.outcome is Reason.PROMOTED


def test_cooldown_and_the_days_budget_hold_plans_but_not_the_user() -> None:
    driver = stable_driver(max_attempts=2)
    for number in (2, 3):
        driver.world.planned = wish(number, Source.PLAN)
        tried = len(driver.world.state.attempts)
        driver.until(lambda world, tried=tried: len(world.state.attempts) > tried)  # type: ignore[misc]
    first, second = reversed(driver.world.state.attempts)
    assert second.started_at - first.ended_at >= 300.0
    driver.world.planned = wish(4, Source.PLAN)
    for _ in range(40):
        driver.once()
    assert driver.world.state.holding == "2 of 2 trials of the last 24 hours are used."
    driver.world.user = wish(5)
    driver.until(lambda world: world.state.attempts[0].revision == "rev5")
    assert driver.outcome is Reason.PROMOTED
    driver.until(lambda world: world.state.phase is Phase.CANARY_STARTING, limit=6000)
    assert driver.world.cluster.now - first.started_at >= 86_400.0


@pytest.mark.parametrize("source", list(Source))
def test_too_few_gpus_hold_a_trial_before_it_starts_and_say_the_way_out(source: Source) -> None:
    driver = stable_driver()
    driver.world.gpus_per_pod, driver.world.gpus_free = 2, 1
    if source is Source.USER:
        driver.world.user = wish(2)
    else:
        driver.world.planned = wish(2, Source.PLAN)
    for _ in range(5):
        driver.once()
    assert driver.world.state.phase is Phase.STABLE and driver.world.state.attempts == ()
    assert driver.world.state.plan_starts == ()
    assert "needs 2 GPUs" in driver.world.state.holding and "1 are free" in driver.world.state.holding
    driver.world.gpus_free = 2
    driver.until_phase(Phase.CANARY_STARTING)


def test_metrics_that_stay_away_hold_until_the_deadline_and_then_roll_back() -> None:
    driver = stable_driver()
    driver.world.user = wish(2)
    driver.world.metrics = False
    driver.until_phase(Phase.CANARY_JUDGING)
    began = driver.world.cluster.now
    driver.until_phase(Phase.ROLLING_BACK)
    assert driver.world.cluster.now - began >= 180.0
    driver.until_phase(Phase.STABLE)
    assert driver.world.state.attempts[0].reason is Reason.DEADLINE_EXCEEDED


def test_a_stable_pod_lost_during_a_trial_delays_the_end_of_a_canary_that_serves() -> None:
    driver = stable_driver()
    driver.world.user = wish(2)
    driver.until_phase(Phase.CANARY_JUDGING)
    driver.world.cluster.kill("rev1")
    driver.world.user = wish(1)
    driver.once(1.0)
    assert driver.world.state.phase is Phase.ROLLING_BACK
    assert driver.world.cluster.ready() == 2
    driver.until_phase(Phase.STABLE)
    assert driver.world.cluster.ready("rev1") == 2


def test_a_corrected_spec_is_tried_though_stable_died_and_the_candidate_serves_until_then() -> None:
    cluster = Cluster()
    cluster.natures["rev10"] = Nature.DIES
    driver = Driver(World(cluster, policy=policy(1), user=wish(10)))
    driver.until_phase(Phase.STABLE)
    driver.world.user = wish(2)
    driver.until(lambda world: cluster.ready("rev2") == 1)
    driver.world.user, driver.least_ready = wish(3), 10**6
    driver.until(lambda world: world.state.stable is not None and world.state.stable.revision == "rev3", limit=60)
    driver.until_phase(Phase.STABLE)
    driver.once()
    assert driver.least_ready >= 1 and set(cluster.workloads) == {"rev3"}


def test_replicas_follow_the_spec_and_no_replicas_need_no_canary() -> None:
    driver = stable_driver()
    driver.world.policy = replace(driver.world.policy, replicas=4)
    driver.once()
    driver.once(30.0)
    assert driver.world.cluster.ready("rev1") == 4
    driver.world.policy = replace(driver.world.policy, replicas=0)
    driver.once()
    driver.world.user = wish(2)
    driver.once()
    driver.once()
    assert driver.world.state.stable is not None and driver.world.state.stable.revision == "rev2"
    assert driver.world.state.attempts == () and set(driver.world.cluster.workloads) == {"rev2"}


def test_replicas_that_an_autoscaler_owns_are_never_written_while_it_serves() -> None:
    driver = stable_driver(replicas_owned_elsewhere=True)
    driver.world.cluster.workloads["rev1"].desired = 3
    driver.once()
    driver.once(30.0)
    driver.world.user, driver.least_ready = wish(2), 10**6
    while driver.world.state.phase is not Phase.WATCHING:
        for action in driver.once():
            if isinstance(action, EnsureRevision) and action.revision == "rev1":
                assert action.replicas is None or driver.world.cluster.ready("rev2") >= 3
    assert driver.least_ready == 3


def test_a_promoted_adopted_workload_is_rolled_by_its_own_rollout_beside_the_canary() -> None:
    driver = adopted_driver()
    driver.world.planned = wish(16, Source.PLAN)
    while driver.world.state.attempts == ():
        for action in driver.once():
            assert not (isinstance(action, EnsureRevision) and action.revision == "rev1")
            assert not (isinstance(action, RemoveRevision) and action.revision == "rev1")
        driver.world.planned = None if driver.world.state.candidate else driver.world.planned
    assert driver.outcome is Reason.PROMOTED
    assert set(driver.world.cluster.workloads) == {"target"}
    assert driver.world.cluster.ready("rev16") == 2 and driver.least_ready >= 2


@pytest.mark.parametrize("phase", [Phase.CANARY_JUDGING, Phase.PROMOTING, Phase.WATCHING])
def test_an_adopted_workload_gets_its_own_configuration_back_only_if_it_was_changed(phase: Phase) -> None:
    driver = adopted_driver()
    driver.world.planned = wish(16, Source.PLAN)
    driver.until_phase(phase)
    driver.world.planned, driver.world.abort = None, True
    touched = False
    while driver.world.state.attempts == ():
        touched |= any(isinstance(action, ReconfigureTarget) for action in driver.once())
    assert touched == (phase is not Phase.CANARY_JUDGING)
    assert driver.world.cluster.ready("rev1") == 2 and set(driver.world.cluster.workloads) == {"target"}
    assert driver.least_ready >= 2


def test_an_adopted_workload_that_fails_on_the_new_configuration_is_restored() -> None:
    driver = adopted_driver(natures={16: Nature.HARMFUL_LATER})
    driver.world.planned = wish(16, Source.PLAN)
    driver.until(lambda world: bool(world.state.attempts))
    assert driver.world.state.attempts[0].reason is Reason.SLO_REGRESSION
    assert driver.world.cluster.ready("rev1") == 2 and driver.world.cluster.workloads["target"].runs == "rev1"


def test_each_transition_is_announced_once() -> None:
    driver = stable_driver(natures={2: Nature.HARMFUL})
    driver.world.user = wish(2)
    driver.until(lambda world: bool(world.state.attempts))
    for _ in range(10):
        driver.once()
    assert driver.reasons()[2:] == [
        Reason.CANARY_STARTING,
        Reason.CANARY_JUDGING,
        Reason.SLO_REGRESSION,
        Reason.ROLLED_BACK,
    ]
    assert [announcement.warning for announcement in driver.said[2:]] == [False, False, True, True]


def altering(driver: Driver, number: int) -> Driver:
    """The driver at the moment at which a candidate that can alter outputs is judged."""
    driver.world.user = replace(wish(number), alters_outputs=True)
    driver.until_phase(Phase.CANARY_JUDGING)
    return driver


def looked_at(driver: Driver, quality: Verdict | None) -> RolloutState:
    """One look of which the comparison of outputs has this result; everything else is good."""
    driver.world.cluster.tick(15.0)
    facts = replace(driver.world.facts(), verdict=GOOD, quality=quality, quality_needed=True)
    driver.world.state, _ = step(driver.world.state, facts, driver.world.cluster.now)
    return driver.world.state


def test_outputs_that_are_not_compared_yet_hold_a_canary_that_is_good_otherwise() -> None:
    state = looked_at(altering(stable_driver(), 2), None)
    assert state.phase is Phase.CANARY_JUDGING
    assert "being compared" in state.holding


def test_outputs_within_the_budget_let_the_canary_advance_and_are_remembered_with_the_attempt() -> None:
    driver = altering(stable_driver(), 2)
    state = looked_at(driver, SAME_OUTPUTS)
    assert state.phase is Phase.PROMOTING and state.quality == SAME_OUTPUTS
    driver.until_phase(Phase.STABLE)
    assert driver.outcome is Reason.PROMOTED
    assert driver.world.state.attempts[0].measured["quality.perplexity"] == 0.001
    assert driver.world.state.quality is None


def test_what_a_restart_left_of_the_comparison_is_not_asked_for_again() -> None:
    driver = altering(stable_driver(), 2)
    looked_at(driver, UNCOMPARED)
    driver.world.state = replace(driver.world.state, quality=SAME_OUTPUTS)
    assert looked_at(driver, None).phase is Phase.PROMOTING


def test_outputs_beyond_the_budget_roll_back_and_the_revision_is_remembered_as_bad() -> None:
    driver = stable_driver(natures={2: Nature.OTHER_OUTPUTS})
    driver.world.user = wish(2)
    driver.until(lambda world: bool(world.state.attempts))
    attempt = driver.world.state.attempts[0]
    assert (attempt.outcome, attempt.reason) == (Reason.ROLLED_BACK, Reason.QUALITY_REGRESSION)
    assert attempt.measured["quality.perplexity"] == 0.21
    assert driver.world.state.bad == ("rev2",)
    assert driver.least_ready == 2


def test_outputs_that_cannot_be_compared_until_the_deadline_are_a_rollback_that_says_why() -> None:
    driver = stable_driver(natures={2: Nature.NOT_COMPARED})
    driver.world.user = wish(2)
    driver.until(lambda world: bool(world.state.attempts))
    attempt = driver.world.state.attempts[0]
    assert attempt.reason is Reason.DEADLINE_EXCEEDED
    assert "cannot be reached" in attempt.message
    assert driver.world.state.bad == ()


def test_a_promotion_that_waited_for_its_operator_is_tried_again_and_not_remembered_as_bad() -> None:
    driver = stable_driver()
    driver.world.user = wish(2)
    driver.until_phase(Phase.PROMOTING)
    driver.once(3600.0)
    assert driver.world.state.phase is Phase.ROLLING_BACK
    driver.until(lambda world: len(world.state.attempts) == 2)
    outcomes = [(attempt.outcome, attempt.reason) for attempt in driver.world.state.attempts]
    assert outcomes == [(Reason.PROMOTED, Reason.WITHIN_SLO), (Reason.ROLLED_BACK, Reason.DEADLINE_EXCEEDED)]
    assert driver.world.state.bad == ()
    assert driver.least_ready >= 2

"""B2.9 to B2.11: canaries that fail in every way, stable pods that die, users who change their minds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fault.background import Background
from tests.fault.bed import Bed
from tests.fault.control_plane import ControlPlane
from tests.fault.natures import GOOD, HARMFUL, NATURES, Fate, Nature, sequences
from tests.fault.script import FOREVER, Fault, Kind, Rule, Script
from trimtab.kube.kinds import DEPLOYMENTS, PODS
from trimtab.kube.kinds import Kind as ApiKind

pytestmark = [pytest.mark.cluster, pytest.mark.faults]

QUOTAS = ApiKind("ResourceQuota", "", "v1", "resourcequotas")


@pytest.fixture
async def bed(plane: ControlPlane, prometheus_url: str, background: Background) -> AsyncIterator[Bed]:
    async with Bed(plane, prometheus_url, background, natures=dict(NATURES), script=Script()) as found:
        yield found


@pytest.mark.parametrize(
    ("number", "outcome", "reason"),
    [
        (5, "Abandoned", "CanaryNotReady"),
        (4, "Abandoned", "CanaryCrashLoop"),
        (6, "Abandoned", "CanaryOOMKilled"),
        (7, "Abandoned", "CanaryUnschedulable"),
        (9, "Abandoned", "CanaryImagePull"),
        (10, "RolledBack", "CanaryOOMKilled"),
    ],
)
async def test_b2_09_a_canary_that_cannot_serve_is_taken_away_and_stable_untouched(
    bed: Bed, number: int, outcome: str, reason: str
) -> None:
    await bed.create(rollout={"minimumRequests": 100_000})  # none is promoted before it could die
    bed.watch_capacity()
    bed.sequences(number)
    await bed.run(bed.ended)
    assert bed.attempts() == [(outcome, reason)]
    assert bed.serving() == {1: 2}
    assert (bed.lowest_ready or 0) >= 2
    await bed.quiet()
    assert bed.attempts()[0] == (outcome, reason)


async def test_b2_09_a_quota_that_refuses_the_surge_pod_ends_the_trial(bed: Bed) -> None:
    await bed.create()
    quota = {"metadata": {"name": "two", "namespace": bed.namespace}, "spec": {"hard": {"pods": "2"}}}
    bed.admin.create(QUOTAS, quota)
    bed.sequences(8)
    await bed.run(bed.ended)
    assert bed.attempts() == [("Abandoned", "QuotaExceeded")]
    assert bed.serving() == {1: 2}


@pytest.mark.parametrize(
    ("number", "phase"),
    [
        (8, "CanaryStarting"),
        (8, "CanaryJudging"),
        (8, "Promoting"),
        (8, "Watching"),
        (3, "CanaryStarting"),
        (3, "CanaryJudging"),
    ],
)
async def test_b2_09_stable_pods_that_die_during_a_trial_do_not_stop_it_from_ending(
    bed: Bed, number: int, phase: str
) -> None:
    await bed.begun(number, phase)
    for pod in bed.admin.list(PODS, bed.namespace):
        if sequences(pod["spec"]["containers"][0]) == 1:
            bed.admin.delete(PODS, bed.namespace, pod["metadata"]["name"])
    await bed.run(bed.ended)
    await bed.quiet()
    assert sum(bed.serving().values()) == 2
    assert bed.attempts()[0][0] == ("Promoted" if number == 8 else "RolledBack")


async def test_b2_09_a_node_that_is_lost_with_stable_pods_does_not_stop_a_trial_from_ending(bed: Bed) -> None:
    """The pods stay, not ready, until somebody removes the node."""
    await bed.begun(8, "CanaryJudging")
    stable = bed.status()["rollout"]["stable"]["revision"]
    bed.kubelet.lost = {pod for pod in bed.kubelet.ready if stable in pod}
    assert len(bed.kubelet.lost) == 2
    await bed.run(bed.ended)
    bed.kubelet.lost = set()
    await bed.quiet()
    assert sum(bed.serving().values()) == 2


async def test_b2_10_a_new_spec_in_the_middle_of_a_trial_supersedes_it(bed: Bed) -> None:
    await bed.begun(8, "CanaryJudging")
    bed.sequences(12)
    await bed.run(lambda: bed.ended(2))
    assert bed.attempts() == [("Promoted", "WithinSLO"), ("Superseded", "Superseded")]
    assert bed.serving() == {12: 2}
    assert (bed.lowest_ready or 0) >= 2


async def test_b2_10_the_old_spec_in_the_middle_of_a_trial_withdraws_it(bed: Bed) -> None:
    await bed.begun(8, "CanaryJudging")
    bed.sequences(1)
    await bed.run(bed.ended)
    assert bed.attempts() == [("Withdrawn", "Withdrawn")]
    assert bed.serving() == {1: 2}


@pytest.mark.parametrize("phase", ["CanaryStarting", "CanaryJudging", "Promoting", "Watching"])
async def test_b2_10_a_pause_holds_every_phase_and_its_end_lets_it_go_on(bed: Bed, phase: str) -> None:
    await bed.begun(8, phase)
    bed.annotate(paused="true")
    await bed.step()
    held = bed.phase()
    await bed.rest(9)
    assert bed.phase() == held, "it is where it was, although every deadline of two minutes is over"
    bed.annotate(paused=None)
    await bed.run(bed.ended)
    assert bed.attempts() == [("Promoted", "WithinSLO")]
    assert bed.serving() == {8: 2}
    assert (bed.lowest_ready or 0) >= 2


@pytest.mark.parametrize("phase", ["CanaryStarting", "CanaryJudging", "Promoting", "Watching"])
async def test_b2_10_a_person_who_rolls_back_gets_what_was_and_may_try_again(bed: Bed, phase: str) -> None:
    await bed.begun(8, phase)
    bed.annotate(rollback=bed.status()["rollout"]["candidate"]["revision"])
    await bed.run(bed.ended)
    assert bed.attempts()[0][1] == "RolledBackByUser"
    assert bed.serving() == {1: 2}
    assert (bed.lowest_ready or 0) >= 2
    bed.sequences(12)
    await bed.run(lambda: bed.ended(2))
    assert bed.attempts()[0] == ("Promoted", "WithinSLO")
    assert bed.serving() == {12: 2}


@pytest.mark.parametrize("intervals", [4, 12])
async def test_b2_11_a_rollback_whose_writes_fail_restores_stable_before_the_candidate_goes(
    bed: Bed, intervals: int
) -> None:
    """Harm that shows after the promotion, and an API server that refuses Deployments, also beyond every deadline."""
    await bed.begun(8, "Watching")
    assert bed.script is not None
    bed.kubelet.natures = {**NATURES, 8: HARMFUL}
    refused = Fault(kind=Kind.STATUS, status=503)
    bed.script.play([Rule(fault=refused, verb="apply", resource="deployments", times=FOREVER)])
    await bed.run(lambda: bed.phase() == "RollingBack")
    await bed.rest(intervals)
    assert bed.serving() == {8: 2}, "what serves is not taken away before stable is back"
    bed.script.clear()
    await bed.run(bed.ended)
    await bed.quiet()
    assert bed.attempts()[0][0] == "RolledBack"
    assert bed.serving() == {1: 2}
    assert (bed.lowest_ready or 0) >= 2


async def test_b2_11_a_rollback_target_that_fits_no_more_leaves_the_candidate_serving(bed: Bed) -> None:
    """Serving slowly is better than not serving; and the next good spec ends it."""
    await bed.begun(8, "Watching")
    bed.kubelet.natures = {**NATURES, 8: HARMFUL, 1: Nature(fate=Fate.PENDING)}
    await bed.run(lambda: bed.phase() == "RollingBack")
    await bed.run(lambda: bed.phase() == "Stable")
    assert bed.serving() == {8: 2}
    bed.sequences(12)
    await bed.run(lambda: bed.ended(2))
    await bed.quiet()
    assert bed.serving() == {12: 2}
    assert (bed.lowest_ready or 0) >= 2


async def test_b2_11_a_candidate_that_turns_harmful_while_it_is_promoted_goes_back(bed: Bed) -> None:
    await bed.begun(8, "Promoting")
    bed.kubelet.natures = {**NATURES, 8: HARMFUL}
    await bed.run(bed.ended)
    await bed.quiet()
    assert bed.attempts()[0][0] == "RolledBack"
    assert bed.serving() == {1: 2}
    assert (bed.lowest_ready or 0) >= 2


async def test_b2_11_a_failed_revision_is_not_tried_again(bed: Bed) -> None:
    await bed.begun(3, "CanaryJudging")
    await bed.run(bed.ended)
    bed.kubelet.natures = {**NATURES, 3: GOOD}
    await bed.rest(12)
    assert len(bed.attempts()) == 1
    assert len(bed.admin.list(DEPLOYMENTS, bed.namespace)) == 1

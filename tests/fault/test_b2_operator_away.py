"""B2.6, B2.12 to B2.15: what happens while no operator runs, over long times, at deletions, restarts and upgrades."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.definitions import established
from tests.cluster.fixtures import REPOSITORY
from tests.fault import control_plane
from tests.fault.admin import NAMESPACES
from tests.fault.background import Background
from tests.fault.bed import Bed
from tests.fault.control_plane import ControlPlane
from tests.fault.llmdeployment import NAME
from tests.fault.natures import NATURES, QUEUED, Nature
from tests.fault.scenarios import nothing_left
from tests.fault.tap import Crash
from trimtab.kube.kinds import DEPLOYMENTS, HPAS, LLM_DEPLOYMENTS, PODS
from trimtab.kube.kinds import Kind as ApiKind

pytestmark = [pytest.mark.cluster, pytest.mark.faults]

QUOTAS = ApiKind("ResourceQuota", "", "v1", "resourcequotas")
PHASES = ("CanaryStarting", "CanaryJudging", "Promoting", "Watching")


@pytest.fixture
async def bed(plane: ControlPlane, prometheus_url: str, background: Background) -> AsyncIterator[Bed]:
    async with Bed(plane, prometheus_url, background, natures=dict(NATURES)) as found:
        yield found


async def away(bed: Bed, seconds: float) -> None:
    """No operator runs for so long; the cluster goes on, and a new operator begins."""
    for _ in range(int(seconds / 5)):
        bed.settle()
        bed.pass_time(5.0)
    await bed.restart()


# 6. The operator is away


async def test_b2_06_a_spec_edited_there_and_back_while_the_operator_is_down_is_no_trial(bed: Bed) -> None:
    await bed.create()
    bed.sequences(8)
    bed.sequences(12)
    bed.sequences(1)
    await away(bed, 60)
    await bed.quiet()
    assert bed.attempts() == []
    assert bed.serving() == {1: 2}


async def test_b2_06_a_spec_edited_there_and_back_in_the_middle_of_a_trial_goes_on_with_it(bed: Bed) -> None:
    await bed.begun(8, "CanaryJudging")
    bed.sequences(12)
    bed.sequences(8)
    await away(bed, 60)
    await bed.run(bed.ended)
    assert bed.attempts() == [("Promoted", "WithinSLO")]


@pytest.mark.parametrize("phase", PHASES)
async def test_b2_06_a_resource_deleted_while_the_operator_is_down_leaves_nothing(bed: Bed, phase: str) -> None:
    await bed.begun(8, phase)
    bed.admin.delete(LLM_DEPLOYMENTS, bed.namespace, NAME)
    await away(bed, 30)
    await bed.run(lambda: nothing_left(bed))
    assert await bed.rest(3) == []
    assert nothing_left(bed)


@pytest.mark.parametrize("phase", PHASES)
async def test_b2_06_a_trial_that_was_half_way_is_ended_after_ten_minutes_without_an_operator(
    bed: Bed, phase: str
) -> None:
    """A deadline that is over by then ends a trial, but a good configuration is not remembered as bad for it."""
    await bed.begun(8, phase)
    await away(bed, 600)
    await bed.run(lambda: bed.ended() and bed.attempts()[0] == ("Promoted", "WithinSLO"))
    assert not bed.status()["rollout"].get("bad")
    assert bed.serving() == {8: 2}
    assert (bed.lowest_ready or 0) >= 2


@pytest.mark.parametrize("which", ["stable", "candidate"])
@pytest.mark.parametrize("phase", ["CanaryJudging", "Promoting", "Watching"])
async def test_b2_06_a_deployment_deleted_by_hand_while_the_operator_is_down_comes_back(
    bed: Bed, which: str, phase: str
) -> None:
    await bed.begun(8, phase)
    revision = bed.status()["rollout"][which]["revision"]
    bed.admin.delete(DEPLOYMENTS, bed.namespace, f"{NAME}-{revision}")
    await away(bed, 30)
    await bed.run(bed.ended)
    await bed.quiet()
    assert sum(bed.serving().values()) == 2
    assert len(bed.serving()) == 1


@pytest.mark.parametrize(
    ("number", "ends_as", "serves"),
    [(8, ("Promoted", "WithinSLO"), {8: 2}), (4, ("Abandoned", "CanaryCrashLoop"), {16: 2})],
    ids=["good", "bad"],
)
async def test_b2_06_what_a_crash_left_of_the_first_spec_serves_and_the_edit_is_a_trial_in_its_room(
    bed: Bed, number: int, ends_as: tuple[str, str], serves: dict[int, int]
) -> None:
    """The spec is edited before the first pods are ready, and the operator dies before it has replaced them."""
    bed.admin.create(QUOTAS, _quota(bed))
    bed.apply(engine={"config": {"maxNumSeqs": 16}})  # so many that one of the two pods can carry the load
    await bed.run(lambda: len(bed.admin.list(PODS, bed.namespace)) == 2)
    bed.sequences(number)
    bed.tap.begin(Crash(1, after=True))
    await bed.once()
    assert bed.tap.crashed and bed.status()["rollout"]["stable"]["config"]["maxNumSeqs"] == number
    await away(bed, 60)
    bed.watch_capacity()
    await bed.run(lambda: bed.attempts()[:1] == [ends_as] and bed.phase() == "Stable")
    await bed.quiet()
    assert bed.serving() == serves
    assert (bed.lowest_ready or 0) >= 1


async def test_b2_06_an_hpa_made_while_the_operator_is_down_keeps_the_replicas(bed: Bed) -> None:
    """Of an adopted target: its number is never ours, so the HPA's stands through a promotion."""
    _adopted(bed, replicas=2)
    await bed.run(lambda: bed.phase() == "Stable")
    bed.sequences(8)
    await bed.run(lambda: bed.phase() == "CanaryJudging")
    hpa = {
        "metadata": {"name": "web", "namespace": bed.namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1,
            "maxReplicas": 5,
        },
    }
    bed.admin.create(HPAS, hpa)
    bed.admin.patch(DEPLOYMENTS, bed.namespace, "web", {"spec": {"replicas": 3}})  # as the HPA does it
    await away(bed, 30)
    await bed.run(bed.ended)
    await bed.quiet()
    assert bed.attempts()[0][0] == "Promoted"
    assert bed.serving() == {8: 3}
    assert _owners_of_replicas(bed) == []


def _quota(bed: Bed) -> dict[str, Any]:
    """Room for two pods."""
    return {"metadata": {"name": "two", "namespace": bed.namespace}, "spec": {"hard": {"pods": "2"}}}


def _adopted(bed: Bed, replicas: int) -> None:
    """The user's own Deployment `web`, and an LLMDeployment that adopts it."""
    engine = {"name": "engine", "image": "trimtab.local/played:0", "args": ["/models/m75", "--max-num-seqs", "1"]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [engine]}}
    bed.admin.create(
        DEPLOYMENTS,
        {
            "metadata": {"name": "web", "namespace": bed.namespace},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        },
    )
    override = {"name": "web", "container": "engine", "fieldConflicts": "Override"}
    bed.apply(
        targetRef=override,
        replicas=None,
        model={"name": "m75", "source": None},
        engine={"image": None, "config": None},
    )


def _owners_of_replicas(bed: Bed) -> list[str]:
    """Field managers of ours that own spec.replicas of the target."""
    fields = bed.admin.get(DEPLOYMENTS, bed.namespace, "web")["metadata"]["managedFields"]
    return [
        entry["manager"]
        for entry in fields
        if entry["manager"].startswith("trimtab") and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    ]


# 12. Flapping


@pytest.mark.slow
async def test_b2_12_metrics_about_the_threshold_for_an_hour_lead_to_a_bounded_number_of_trials(bed: Bed) -> None:
    """TTFT and the queue swing every 75 s, so that a plan comes and goes, and any trial seems to help or to harm."""
    await bed.create(
        engine={"config": {"maxNumSeqs": 2}},
        tuning={"mode": "Apply", "attemptsPerDay": 3, "cooldownSeconds": 120},
    )
    calm, busy = Nature(ttft=0.4, waiting=0.2), Nature(ttft=0.8, waiting=6.0)
    began, flips = bed.clock.now, 0
    while bed.clock.now < began + 3600.0:
        wanted = int((bed.clock.now - began) // 75.0)
        if wanted != flips:
            flips = wanted
            nature = (calm, busy)[flips % 2]
            bed.kubelet.natures = dict.fromkeys(range(1, 1025), nature)
        await bed.step()
    status = bed.status()
    assert len(status.get("attempts") or []) <= 3
    assert sum(bed.serving().values()) >= 2
    written = [call for call in bed.tap.writes if call.resource == "llmdeployments"]
    assert len(written) < 150, "an hour has 240 intervals, and a status is not written in each of them"


# 13. Deletion


@pytest.mark.parametrize("phase", PHASES)
async def test_b2_13_a_namespace_that_is_terminated_in_the_middle_of_a_trial_ends_without_us(
    bed: Bed, phase: str
) -> None:
    await bed.begun(8, phase)
    bed.admin.delete(NAMESPACES, "", bed.namespace)
    await bed.run(lambda: nothing_left(bed) and bed.admin.find(NAMESPACES, "", bed.namespace) is None)
    assert await bed.rest(3) == []
    bed.admin.create(NAMESPACES, {"metadata": {"name": bed.namespace}})  # the bed deletes it at its end


async def test_b2_13_a_finalizer_left_by_an_older_version_is_not_waited_for_and_nothing_is_written(bed: Bed) -> None:
    await bed.begun(8, "CanaryJudging")
    finalizer = ["kopf.zalando.org/KopfFinalizerMarker"]
    bed.admin.patch(LLM_DEPLOYMENTS, bed.namespace, NAME, {"metadata": {"finalizers": finalizer}})
    bed.admin.delete(LLM_DEPLOYMENTS, bed.namespace, NAME)
    assert await bed.rest(5) == []
    assert (bed.lowest_ready or 0) >= 2, "what serves is not ours to end before the resource is gone"
    bed.admin.patch(LLM_DEPLOYMENTS, bed.namespace, NAME, {"metadata": {"finalizers": None}})
    await bed.run(lambda: nothing_left(bed))


@pytest.mark.slow
async def test_b2_13_definitions_that_are_removed_and_applied_again_begin_anew(
    tmp_path: Path, prometheus_url: str, background: Background
) -> None:
    """On a control plane of its own: every LLMDeployment of the cluster goes with its definition."""
    with control_plane.running(tmp_path) as own:
        async with Bed(own, prometheus_url, background, natures=dict(NATURES)) as bed:
            await bed.begun(8, "CanaryJudging")
            own.kubectl("delete", "crd", "llmdeployments.trimtab.dev", "--wait=true")
            await bed.rest(2)
            own.kubectl("apply", "--server-side", f"--filename={REPOSITORY / 'crds'}")
            established(own.kubectl, "crd/llmdeployments.trimtab.dev")
            await bed.create()
            await bed.quiet()
            assert bed.serving() == {1: 2}
            assert bed.attempts() == []


# 14. A restart without history


async def test_b2_14_an_operator_that_has_just_started_tries_nothing_before_it_has_seen_a_plan_last(
    plane: ControlPlane, prometheus_url: str, background: Background
) -> None:
    """An operator that is restarted every 20 s tunes nothing; one that stays does."""
    async with Bed(plane, prometheus_url, background, natures={2: QUEUED}) as bed:
        await bed.create(engine={"config": {"maxNumSeqs": 2}}, tuning={"mode": "Recommend"})
        bed.edit({"tuning": {"mode": "Apply"}})
        for _ in range(8):
            await bed.restart()
            await bed.rest(1)
        assert bed.phase() == "Stable"
        assert bed.attempts() == []
        await bed.run(bed.ended)
        assert bed.attempts()[0][0] == "Promoted"


# 15. Upgrades


def _unknown(document: dict[str, Any]) -> dict[str, Any]:
    """The same state as a later version may have written it: with a word that this one does not know."""
    decision = {"outcome": "SetAside", "reason": "SomethingNew", "message": "", "at": "2026-01-01T00:00:00Z"}
    return {**document, "decision": decision}


@pytest.mark.parametrize("phase", PHASES)
async def test_b2_15_a_state_with_an_unknown_word_is_held_and_goes_on_when_its_version_is_back(
    bed: Bed, phase: str
) -> None:
    await bed.begun(8, phase)
    rollout = bed.status()["rollout"]
    _persist(bed, _unknown(rollout))
    await bed.restart()
    deployments = bed.admin.list(DEPLOYMENTS, bed.namespace)
    await bed.rest(10)
    ready = next(item for item in bed.status()["conditions"] if item["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "status.rollout" in ready["message"]
    held = [(item["metadata"]["name"], item["spec"]) for item in bed.admin.list(DEPLOYMENTS, bed.namespace)]
    assert held == [(item["metadata"]["name"], item["spec"]) for item in deployments], "nothing is moved"
    _persist(bed, {**rollout, "decision": rollout.get("decision")})
    await bed.restart()
    await bed.run(bed.ended)
    assert bed.attempts()[0][0] == "Promoted"
    assert (bed.lowest_ready or 0) >= 2


@pytest.mark.parametrize("phase", PHASES)
async def test_b2_15_a_state_without_the_fields_that_came_later_is_carried_on(bed: Bed, phase: str) -> None:
    """What an older version wrote: only what a state cannot be without."""
    await bed.begun(8, phase)
    rollout = bed.status()["rollout"]
    later = ("heldBy", "holding", "planStarts", "previousUserConfig", "previousUserTemplate", "verdict", "bad")
    _persist(bed, {**rollout, **dict.fromkeys(later)})
    await bed.restart()
    await bed.run(bed.ended)
    await bed.quiet()
    assert bed.attempts()[0][0] == "Promoted"
    assert bed.serving() == {8: 2}
    assert (bed.lowest_ready or 0) >= 2


@pytest.mark.slow
async def test_b2_15_an_operator_older_than_the_definitions_goes_on_judging_and_says_what_it_leaves_aside(
    tmp_path: Path, prometheus_url: str, background: Background
) -> None:
    """The definitions come before the operator at an upgrade, and stay when it is taken back. Their new field has a
    default, so every resource has it at once. On a control plane of its own.
    """
    with control_plane.running(tmp_path) as own:
        async with Bed(own, prometheus_url, background, natures=dict(NATURES)) as bed:
            await bed.begun(3, "CanaryJudging")
            (document,) = yaml.safe_load_all((REPOSITORY / "crds/trimtab.dev_llmdeployments.yaml").read_text())
            (version,) = document["spec"]["versions"]
            spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
            spec["rollout"]["properties"]["newerField"] = {"type": "integer", "default": 7}
            newer = tmp_path / "newer.yaml"
            newer.write_text(yaml.safe_dump(document))
            own.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={newer}")
            await bed.run(bed.ended)
            stored = bed.admin.find(LLM_DEPLOYMENTS, bed.namespace, NAME)
            assert stored is not None and stored["spec"]["rollout"]["newerField"] == 7
            assert bed.attempts()[0][0] == "RolledBack"
            assert (bed.lowest_ready or 0) >= 2
            ready = next(item for item in bed.status()["conditions"] if item["type"] == "Ready")
            assert ready["status"] == "True"
            assert "left aside: spec.rollout.newerField" in ready["message"]


def _persist(bed: Bed, rollout: dict[str, Any]) -> None:
    """A merge patch of the status: None removes."""
    bed.admin.patch(LLM_DEPLOYMENTS, bed.namespace, NAME, {"status": {"rollout": rollout}}, "status")

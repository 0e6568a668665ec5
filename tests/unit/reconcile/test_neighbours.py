"""Quotas, disruption budgets, autoscalers and the owners of adopted workloads, as the API server shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.property.simulated_cluster import Nature, World
from tests.unit.rollout.worlds import Driver, adopted_driver, wish
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, ReconfigureTarget
from trimtab.reconcile.neighbours import git_owner, pods_admitted, pods_protected, scaler_of

POD = {
    "spec": {
        "containers": [
            {"resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": "2"}}},
            {"resources": {"requests": {"cpu": "250m"}}},
        ]
    }
}


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used}}


@pytest.mark.parametrize(
    ("quotas", "admitted"),
    [
        ([], None),
        ([quota({"pods": "5"}, {"pods": "3"})], 2),
        ([quota({"requests.cpu": "4"}, {"requests.cpu": "1750m"})], 3),
        ([quota({"limits.memory": "4Gi"}, {"limits.memory": "3584Mi"})], 0),
        ([quota({"requests.nvidia.com/gpu": "8"}, {"requests.nvidia.com/gpu": "4"})], 2),
        ([quota({"pods": "9"}, {"pods": "3"}), quota({"cpu": "2"}, {"cpu": "1"})], 1),
        ([quota({"pods": "1"}, {"pods": "3"})], 0),
        ([quota({"pods": "1"}, {"pods": "1"}, scopes=["BestEffort"])], None),
        ([quota({"configmaps": "1"}, {"configmaps": "1"})], None),
    ],
)
def test_the_narrowest_quota_says_how_many_further_pods_there_may_be(
    quotas: list[dict[str, Any]], admitted: int | None
) -> None:
    assert pods_admitted(quotas, POD) == admitted


def test_without_a_pod_to_go_by_a_quota_says_nothing() -> None:
    assert pods_admitted([quota({"pods": "1"}, {"pods": "1"})], None) is None


def budget(selector: dict[str, Any] | None, healthy: int) -> dict[str, Any]:
    return {"spec": {"selector": selector}, "status": {"desiredHealthy": healthy}}


def test_budgets_that_select_the_pods_protect_them() -> None:
    labels = {"app": "chat", "tier": "serving"}
    budgets = [
        budget({"matchLabels": {"app": "chat"}}, 2),
        budget({"matchLabels": {"app": "other"}}, 9),
        budget({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["batch"]}]}, 3),
        budget({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, 9),
        budget(None, 9),
    ]
    assert pods_protected(budgets, labels) == 3
    assert pods_protected([], labels) == 0


def test_an_autoscaler_is_found_by_what_it_scales() -> None:
    hpa = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}},
    }
    keda = {"kind": "ScaledObject", "metadata": {"name": "queue"}, "spec": {"scaleTargetRef": {"name": "chat"}}}
    other = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "x"},
        "spec": {"scaleTargetRef": {"kind": "LLMDeployment", "name": "chat"}},
    }
    assert scaler_of([other, hpa, keda], "chat") == "ScaledObject queue"
    assert scaler_of([hpa], "web") == "HorizontalPodAutoscaler web"
    assert scaler_of([other], "chat") == ""


@pytest.mark.parametrize(
    ("metadata", "tool"),
    [
        ({}, ""),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "chat:apps/Deployment:serving/web"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "Flux"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "chat"}}, "Flux"),
    ],
)
def test_a_tool_that_applies_a_repository_is_known_by_its_marks(metadata: dict[str, Any], tool: str) -> None:
    assert git_owner({"metadata": {"name": "web", **metadata}}) == tool


def _never_reconfigured(driver: Driver, intervals: int) -> None:
    for _ in range(intervals):
        assert not any(isinstance(action, ReconfigureTarget) for action in driver.once())


def test_what_a_repository_declares_is_tried_on_a_copy_exported_and_not_changed() -> None:
    driver = adopted_driver()
    world: World = driver.world
    world.git_owner, world.user = "Flux", wish(2)
    _never_reconfigured(driver, 30)
    attempt = world.state.attempts[0]
    assert (attempt.outcome, attempt.revision) == (Reason.PROVEN, "rev2")
    assert Phase.CANARY_JUDGING in driver.phases and Phase.PROMOTING not in driver.phases
    assert attempt.measured, "what was measured beside stable is kept"
    assert world.state.phase is Phase.STABLE and world.state.held_by is Reason.OWNED_BY_GIT
    assert "rev2 proved itself" in world.state.holding and "`trimtab export`" in world.state.holding
    assert len(world.state.attempts) == 1 and world.state.bad == (), "once is enough"
    assert set(world.cluster.workloads) == {"target"} and driver.least_ready >= 2


@pytest.mark.parametrize("shares", [(), (25, 50)])
def test_each_share_of_a_copy_is_judged_before_it_is_proven(shares: tuple[int, ...]) -> None:
    driver = adopted_driver()
    world: World = driver.world
    world.policy = replace(world.policy, shares=shares, share_seconds=0.0)
    world.git_owner, world.user = "Argo CD", wish(2)
    _never_reconfigured(driver, 40)
    assert world.state.attempts[0].outcome is Reason.PROVEN
    assert driver.phases.count(Phase.SHIFTING) == max(len(shares) - 1, 0)


def test_a_bad_copy_of_what_a_repository_declares_goes_and_is_remembered() -> None:
    driver = adopted_driver({2: Nature.HARMFUL})
    world: World = driver.world
    world.git_owner, world.user = "Flux", wish(2)
    _never_reconfigured(driver, 30)
    assert world.state.attempts[0].outcome is Reason.ROLLED_BACK and world.state.bad == ("rev2",)
    assert world.state.held_by is Reason.REMEMBERED_AS_BAD and set(world.cluster.workloads) == {"target"}


def test_an_override_after_it_was_proven_promotes_it() -> None:
    driver = adopted_driver()
    world: World = driver.world
    world.git_owner, world.user = "Flux", wish(2)
    _never_reconfigured(driver, 30)
    world.git_owner = ""
    driver.until(lambda now: len(now.state.attempts) == 2)
    assert world.state.attempts[0].outcome is Reason.PROMOTED

"""Carrying actions out against the real API server: one writer per field, templates written once, only what differs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reconcile.conftest import ADOPTED, OWNED, Make
from trimtab.api.names import DEPLOYMENT_LABEL, REVISION_LABEL, workload_name
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.kube.client import Kube
from trimtab.kube.errors import Conflict, Invalid
from trimtab.kube.kinds import DEPLOYMENTS, SERVICES
from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.model.rollout import Action, Announce, EnsureRevision, ReconfigureTarget, RemoveRevision
from trimtab.reconcile.perform import REPLICAS_MANAGER, TemplateLostError, perform, performing_failed
from trimtab.reconcile.workloads import read_workloads
from trimtab.render import template_hash

pytestmark = pytest.mark.cluster

CONFIG = EngineConfig({"maxNumSeqs": 2})


async def _perform(kube: Kube, deployment: LLMDeployment, *actions: Action, template: str | None = None) -> None:
    workloads = await read_workloads(kube, deployment, clusterwide=True)
    await perform(kube, deployment, workloads, template or template_hash(deployment), actions)


def _ensure(deployment: LLMDeployment, replicas: int | None, revision: str = "aaaa1111") -> EnsureRevision:
    return EnsureRevision(revision, CONFIG, template_hash(deployment), replicas)


async def _revision(kube: Kube, deployment: LLMDeployment, revision: str = "aaaa1111") -> dict[str, Any]:
    found = await kube.get(
        DEPLOYMENTS, deployment.metadata.namespace, workload_name(deployment.metadata.name, revision)
    )
    assert found is not None
    return found


def _managers(live: dict[str, Any], *path: str) -> set[str]:
    """Who owns a field by server-side apply."""
    owners = set()
    for entry in live["metadata"]["managedFields"]:
        fields = entry.get("fieldsV1", {})
        for part in path:
            fields = fields.get(f"f:{part}") if isinstance(fields, dict) else None
        if fields is not None and entry["operation"] == "Apply":
            owners.add(entry["manager"])
    return owners


async def test_a_revision_is_created_with_its_owner_its_labels_and_its_service(kube: Kube, make: Make) -> None:
    deployment = await make(OWNED)
    await _perform(kube, deployment, _ensure(deployment, 2))
    live = await _revision(kube, deployment)
    (owner,) = live["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("LLMDeployment", deployment.metadata.uid)
    labels = live["spec"]["template"]["metadata"]["labels"]
    assert (labels[DEPLOYMENT_LABEL], labels[REVISION_LABEL]) == ("chat", "aaaa1111")
    assert live["spec"]["replicas"] == 2
    (container,) = live["spec"]["template"]["spec"]["containers"]
    assert "--max-num-seqs" in container["args"]
    service = await kube.get(SERVICES, deployment.metadata.namespace, "chat")
    assert service is not None
    assert service["spec"]["selector"] == {DEPLOYMENT_LABEL: "chat"}


async def test_replicas_have_a_field_manager_of_their_own(kube: Kube, make: Make) -> None:
    deployment = await make(OWNED)
    await _perform(kube, deployment, _ensure(deployment, 2))
    live = await _revision(kube, deployment)
    assert _managers(live, "spec", "replicas") == {REPLICAS_MANAGER}
    assert _managers(live, "spec", "template") == {"trimtab"}
    await _perform(kube, deployment, _ensure(deployment, 1))
    live = await _revision(kube, deployment)
    assert live["spec"]["replicas"] == 1
    assert _managers(live, "spec", "replicas") == {REPLICAS_MANAGER}
    assert _managers(live, "spec", "template") == {"trimtab"}, "scaling leaves the template and its owner alone"


async def test_what_is_true_already_is_not_written_again(kube: Kube, make: Make) -> None:
    deployment = await make(OWNED)
    await _perform(kube, deployment, _ensure(deployment, 2))
    before = kube.writes.total()
    for _ in range(3):
        await _perform(kube, deployment, _ensure(deployment, 2))
    assert kube.writes.total() == before


async def test_the_template_of_a_revision_is_never_written_again(kube: Kube, make: Make) -> None:
    """Neither an edit of the spec nor an operator that renders differently may restart pods that serve."""
    deployment = await make(OWNED)
    await _perform(kube, deployment, _ensure(deployment, 2))
    before = await _revision(kube, deployment)
    edited = deployment.model_copy(
        update={
            "spec": deployment.spec.model_copy(
                update={"rollout": deployment.spec.rollout.model_copy(update={"drain_seconds": 7})}
            )
        }
    )
    same = EnsureRevision("aaaa1111", EngineConfig({"maxNumSeqs": 64}), template_hash(deployment), 1)
    await _perform(kube, edited, same)
    after = await _revision(kube, deployment)
    assert after["spec"]["template"] == before["spec"]["template"]
    assert after["spec"]["replicas"] == 1


async def test_without_a_number_the_replicas_are_left_to_their_owner(kube: Kube, make: Make) -> None:
    deployment = await make(OWNED)
    await _perform(kube, deployment, _ensure(deployment, None))
    live = await _revision(kube, deployment)
    assert live["spec"]["replicas"] == 1, "the API server's default"
    assert _managers(live, "spec", "replicas") == set()


async def test_no_deployment_is_made_for_a_revision_without_pods(kube: Kube, make: Make) -> None:
    """It would be created without a number of replicas, which is one pod for a moment."""
    deployment = await make(OWNED)
    await _perform(kube, deployment, _ensure(deployment, 0))
    assert await kube.list(DEPLOYMENTS, deployment.metadata.namespace) == []
    await _perform(kube, deployment, _ensure(deployment, 1))
    await _perform(kube, deployment, _ensure(deployment, 0))
    assert (await _revision(kube, deployment))["spec"]["replicas"] == 0, "one that is there is kept, to be restored"


async def test_a_removed_revision_is_gone_and_removing_it_again_is_nothing(kube: Kube, make: Make) -> None:
    deployment = await make(OWNED)
    await _perform(kube, deployment, _ensure(deployment, 1))
    workloads = await read_workloads(kube, deployment, clusterwide=True)
    for _ in range(2):
        await perform(kube, deployment, workloads, "t", (RemoveRevision("aaaa1111"),))
    name = workload_name("chat", "aaaa1111")
    found = await kube.get(DEPLOYMENTS, deployment.metadata.namespace, name)
    assert found is None or found["metadata"].get("deletionTimestamp")


async def test_only_the_very_object_that_was_seen_is_removed(kube: Kube, make: Make) -> None:
    deployment = await make(OWNED)
    await _perform(kube, deployment, _ensure(deployment, 1))
    seen = await read_workloads(kube, deployment, clusterwide=True)
    await perform(kube, deployment, seen, "t", (RemoveRevision("aaaa1111"),))
    await _perform(kube, deployment, _ensure(deployment, 1))  # another one of the same name
    with pytest.raises(Conflict):
        await perform(kube, deployment, seen, "t", (RemoveRevision("aaaa1111"),))
    assert (await _revision(kube, deployment))["spec"]["replicas"] == 1


async def test_a_revision_whose_pods_the_spec_no_longer_describes_is_not_made_up(kube: Kube, make: Make) -> None:
    deployment = await make(OWNED)
    with pytest.raises(TemplateLostError) as lost:
        await _perform(kube, deployment, _ensure(deployment, 2), template="another")
    problem = performing_failed(lost.value)
    assert problem is not None
    assert problem.reason is Reason.TARGET_NOT_FOUND
    assert "aaaa1111" in problem.message


async def test_a_pod_that_the_api_server_refuses_is_an_invalid_spec(kube: Kube, make: Make) -> None:
    """Kubernetes knows rules that the resource's schema does not: an operator Exists takes no value."""
    deployment = await make(OWNED, pod={"tolerations": [{"key": "gpu", "operator": "Exists", "value": "yes"}]})
    with pytest.raises(Invalid) as refused:
        await _perform(kube, deployment, _ensure(deployment, 2))
    problem = performing_failed(refused.value)
    assert problem is not None
    assert problem.reason is Reason.INVALID_SPEC
    assert "tolerations" in problem.message


async def test_announcements_write_nothing_here(kube: Kube, make: Make) -> None:
    deployment = await make(OWNED)
    await _perform(kube, deployment, _ensure(deployment, 2))
    before = kube.writes.total()
    await _perform(kube, deployment, Announce(Reason.STABLE, "Revision aaaa1111 serves."))
    assert kube.writes.total() == before


async def test_the_service_follows_the_port_of_the_spec(kube: Kube, make: Make) -> None:
    deployment = await make(OWNED)
    await _perform(kube, deployment)
    moved = deployment.model_copy(
        update={
            "spec": deployment.spec.model_copy(
                update={"engine": deployment.spec.engine.model_copy(update={"port": 9001})}
            )
        }
    )
    await _perform(kube, moved)
    service = await kube.get(SERVICES, deployment.metadata.namespace, "chat")
    assert service is not None
    assert [port["port"] for port in service["spec"]["ports"]] == [9001]
    before = kube.writes.total()
    await _perform(kube, moved)
    assert kube.writes.total() == before


# Adopted workloads.


def _web(namespace: str, *, sidecar: bool = False) -> dict[str, Any]:
    engine = {
        "name": "vllm",
        "image": "trimtab.local/not-there:0",
        "imagePullPolicy": "Never",
        "command": ["vllm", "serve"],
        "args": ["/models/m75", "--max-num-seqs", "1", "--enforce-eager"],
    }
    proxy = {"name": "proxy", "image": "trimtab.local/not-there:1", "imagePullPolicy": "Never"}
    return {
        "metadata": {"name": "web", "namespace": namespace, "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"example.com/owner": "a team"}},
                "spec": {"containers": [proxy, engine] if sidecar else [engine]},
            },
        },
    }


def _takes(config: EngineConfig) -> ReconfigureTarget:
    return ReconfigureTarget("bbbb2222", config, "t")


def _arguments(live: dict[str, Any]) -> list[str]:
    containers = live["spec"]["template"]["spec"]["containers"]
    return list(next(item["args"] for item in containers if item["name"] == "vllm"))


async def _target(kube: Kube, namespace: str) -> dict[str, Any]:
    found = await kube.get(DEPLOYMENTS, namespace, "web")
    assert found is not None
    return found


@pytest.mark.parametrize("sidecar", [False, True])
async def test_a_target_that_nobody_applied_takes_the_planned_arguments_alone(
    kube: Kube, make: Make, namespace: str, sidecar: bool
) -> None:
    await kube.create(DEPLOYMENTS, _web(namespace, sidecar=sidecar))  # not applied: its creator owns it by "Update"
    deployment = await make(ADOPTED, targetRef={"name": "web", "container": "vllm", "fieldConflicts": "Override"})
    before = await _target(kube, namespace)
    wanted = _takes(EngineConfig({"maxNumSeqs": 16, "enforceEager": True}))
    await _perform(kube, deployment, wanted)
    after = await _target(kube, namespace)
    assert "16" in _arguments(after)
    assert len(after["spec"]["template"]["spec"]["containers"]) == len(before["spec"]["template"]["spec"]["containers"])
    assert after["spec"]["replicas"] == 3
    assert _managers(after, "spec", "replicas") == set()
    writes = kube.writes.total()
    await _perform(kube, deployment, wanted)
    assert kube.writes.total() == writes, "a target that runs it already is left alone, also beside a sidecar"


async def test_another_owner_of_the_arguments_is_named_and_nothing_is_changed(
    kube: Kube, make: Make, namespace: str
) -> None:
    await kube.apply(DEPLOYMENTS, _web(namespace), force=False, manager="argocd-controller")
    deployment = await make(ADOPTED)
    with pytest.raises(Conflict) as conflict:
        await _perform(kube, deployment, _takes(EngineConfig({"maxNumSeqs": 16, "enforceEager": True})))
    problem = performing_failed(conflict.value)
    assert problem is not None
    assert problem.reason is Reason.FIELD_CONFLICT
    assert "argocd-controller" in problem.message
    assert "spec.targetRef.fieldConflicts" in problem.message
    assert _arguments(await _target(kube, namespace)) == ["/models/m75", "--max-num-seqs", "1", "--enforce-eager"]


async def test_the_canary_of_a_target_is_a_copy_that_the_users_service_reaches(
    kube: Kube, make: Make, namespace: str
) -> None:
    await kube.create(DEPLOYMENTS, _web(namespace, sidecar=True))
    deployment = await make(ADOPTED)
    action = EnsureRevision("bbbb2222", EngineConfig({"maxNumSeqs": 16}), "t", 1)
    await _perform(kube, deployment, action, template="t")
    copied = await kube.get(DEPLOYMENTS, namespace, "web-bbbb2222")
    assert copied is not None
    template = copied["spec"]["template"]
    assert template["metadata"]["labels"]["app"] == "web"
    assert template["metadata"]["labels"][REVISION_LABEL] == "bbbb2222"
    assert template["metadata"]["annotations"] == {"example.com/owner": "a team"}
    assert [item["name"] for item in template["spec"]["containers"]] == ["proxy", "vllm"]
    assert copied["spec"]["selector"]["matchLabels"][REVISION_LABEL] == "bbbb2222"
    assert await kube.get(SERVICES, namespace, "chat") is None, "an adopted workload has a Service of its own"
    assert _managers(await _target(kube, namespace), "spec") == set(), "the target is not touched"


def test_a_failure_that_trying_again_may_cure_is_no_problem_of_a_person() -> None:
    assert performing_failed(Conflict("somebody wrote first")) is None
    assert performing_failed(RuntimeError("a bug")) is None

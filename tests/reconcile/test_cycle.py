"""Whole cycles against the real API server, with a Prometheus that nobody can reach: what is written, and how often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.handle import Handle
from tests.e2e.waiting import until
from tests.reconcile.conftest import ADOPTED, OWNED, Make
from trimtab.api.names import revision_name
from trimtab.api.v1alpha1 import ROLLBACK, LLMDeployment
from trimtab.config import Settings
from trimtab.kube.client import Kube
from trimtab.kube.errors import Forbidden
from trimtab.kube.events import Events
from trimtab.kube.kinds import DEPLOYMENTS, HPAS, LLM_DEPLOYMENTS, PODS, SERVICES
from trimtab.model.config import EngineConfig
from trimtab.observe.probing import Prober
from trimtab.observe.prometheus import Prometheus
from trimtab.reconcile.cycle import cycle
from trimtab.reconcile.memory import Key, Memory
from trimtab.reconcile.metrics import MetricsReader
from trimtab.reconcile.neighbours import NeighbourMemory
from trimtab.reconcile.quality import Comparisons
from trimtab.reconcile.workloads import read_workloads
from trimtab.reconcile.world import World
from trimtab.render import template_hash
from trimtab.telemetry.metrics import Metrics
from trimtab.telemetry.tracing import Tracing

pytestmark = pytest.mark.cluster

LONG_AGO = "2026-01-01T00:00:00Z"


class Clock:
    """Seconds since the epoch; `tick` is one evaluation interval."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


class Operator:
    """Calls `cycle` for the resource `chat`, an interval after another; `forget` is a restart of the process."""

    def __init__(self, world: World, clock: Clock, namespace: str) -> None:
        self.world = world
        self.clock = clock
        self.key = Key(namespace, "chat")

    async def once(self) -> float | None:
        self.clock.now += 15.0
        return await cycle(self.key, self.world)

    async def resource(self) -> dict[str, Any]:
        found = await self.world.kube.get(LLM_DEPLOYMENTS, *self.key)
        assert found is not None
        return found

    async def condition(self, kind: str) -> dict[str, Any]:
        conditions = (await self.resource())["status"]["conditions"]
        return dict(next(item for item in conditions if item["type"] == kind))

    async def writes(self, cycles: int = 4) -> list[tuple[str, str]]:
        """What the next cycles write, but for events."""
        before = self.world.kube.writes.copy()
        for _ in range(cycles):
            await self.once()
        made = self.world.kube.writes - before
        return sorted(what for what in made.elements() if what[1] != "Event")

    async def pods_are_pending(self, number: int) -> None:
        """Once controllers have made so many pods, and the scheduler has found that they fit nowhere."""
        async with asyncio.timeout(60):
            while await self._pending() != number:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)

    async def _pending(self) -> int:
        return sum(map(_fits_nowhere, await self.world.kube.list(PODS, self.key.namespace)))

    async def patch(self, body: dict[str, Any]) -> None:
        await self.world.kube.merge_patch(LLM_DEPLOYMENTS, *self.key, body)

    async def persist(self, **rollout: Any) -> None:
        """What an earlier process left in the status."""
        status = {"rollout": {"since": LONG_AGO, "startedAt": LONG_AGO, **rollout}}
        metadata = {"namespace": self.key.namespace, "name": self.key.name}
        body = {"metadata": metadata, "status": status}
        await self.world.kube.apply(LLM_DEPLOYMENTS, body, force=True, subresource="status")


def _fits_nowhere(pod: dict[str, Any]) -> bool:
    return any(item.get("reason") == "Unschedulable" for item in pod.get("status", {}).get("conditions", ()))


@pytest.fixture
async def operator(kube: Kube, namespace: str) -> AsyncIterator[Operator]:
    clock = Clock()
    async with Prometheus("http://127.0.0.1:1") as prometheus, Prober() as prober:
        world = World(
            settings=Settings(prometheus_url="http://127.0.0.1:1"),
            kube=kube,
            events=Events(kube),
            metrics_reader=MetricsReader(prometheus, clock, scrape_interval=5.0),
            comparisons=Comparisons(prober, clock),
            telemetry=Metrics(),
            tracing=Tracing(),
            now=clock,
            memory=Memory(),
        )
        yield Operator(world, clock, namespace)


async def test_the_first_revision_is_created_as_the_spec_asks_and_then_nothing_is_written(
    operator: Operator, make: Make
) -> None:
    deployment = await make(OWNED)
    await operator.once()
    revision = revision_name(EngineConfig({"maxNumSeqs": 2}), template_hash(deployment))
    live = await operator.world.kube.get(DEPLOYMENTS, operator.key.namespace, f"chat-{revision}")
    assert live is not None
    assert live["spec"]["replicas"] == 2
    assert (await operator.resource())["status"]["phase"] == "Starting"
    await operator.pods_are_pending(2)
    await operator.once()
    assert await operator.writes() == []


async def test_a_suspended_resource_creates_nothing(operator: Operator, make: Make) -> None:
    await make(OWNED, suspend=True)
    await operator.once()
    assert await operator.world.kube.list(DEPLOYMENTS, operator.key.namespace) == []
    assert "suspended" in (await operator.resource())["status"]["summary"]


async def test_what_the_api_server_refuses_is_said_once_and_recovers_by_itself(operator: Operator, make: Make) -> None:
    wrong = [{"key": "gpu", "operator": "Exists", "value": "yes"}]
    await make(OWNED, pod={"tolerations": wrong})
    await operator.once()
    ready = await operator.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "tolerations" in ready["message"]
    status = (await operator.resource())["status"]
    assert status["reason"] == "InvalidSpec"
    assert status["rollout"]["stable"], "the state was persisted before its actions were tried"
    assert await operator.writes() == [], "nothing is written while nothing changes"
    await operator.patch({"spec": {"pod": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}})
    await operator.once()
    ready = await operator.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Starting")
    assert len(await operator.world.kube.list(DEPLOYMENTS, operator.key.namespace)) == 1


async def test_a_restarted_operator_says_the_same_after_one_look(operator: Operator, make: Make) -> None:
    await make(OWNED, pod={"tolerations": [{"key": "gpu", "operator": "Exists", "value": "yes"}]})
    await operator.once()
    operator.world.memory.forget(operator.key)
    await operator.once()
    assert (await operator.condition("Ready"))["reason"] == "InvalidSpec"
    assert await operator.writes() == []


async def _adopted(operator: Operator, make: Make, kube: Kube) -> tuple[LLMDeployment, str, str]:
    """A target whose arguments Argo CD owns, adopted: the resource, and the revisions that run and are planned."""
    namespace = operator.key.namespace
    engine = {"name": "vllm", "image": "trimtab.local/not-there:0", "args": ["/models/m75", "--max-num-seqs", "1"]}
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [engine], "nodeSelector": {"example.com/nowhere": "true"}},
    }
    body = {
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    await kube.apply(DEPLOYMENTS, body, force=False, manager="argocd-controller")
    deployment = await make(ADOPTED)
    await operator.once()
    stable = (await operator.resource())["status"]["rollout"]["stable"]
    planned = revision_name(EngineConfig({"maxNumSeqs": 16}), stable["template"])
    await operator.persist(
        phase="Promoting",
        moved=True,
        stable=stable,
        userTemplate=stable["template"],
        candidate={
            "revision": planned,
            "config": {"maxNumSeqs": 16},
            "template": stable["template"],
            "source": "Plan",
        },
        servedAt=LONG_AGO,
        decision={"outcome": "Promoted", "reason": "WithinSLO", "message": "Good.", "at": LONG_AGO},
    )
    return deployment, str(stable["revision"]), planned


async def test_a_field_conflict_is_a_condition_that_names_the_owner_and_no_hot_loop(
    operator: Operator, make: Make, kube: Kube
) -> None:
    operator.clock.now = 1_767_225_600.0 + 30.0  # half a minute after the promotion began
    await _adopted(operator, make, kube)
    await operator.once()
    ready = await operator.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "FieldConflict")
    assert "argocd-controller" in ready["message"]
    await operator.pods_are_pending(1)
    await operator.once()
    assert await operator.writes() == []
    target = await kube.get(DEPLOYMENTS, operator.key.namespace, "web")
    assert target is not None
    assert target["spec"]["template"]["spec"]["containers"][0]["args"] == ["/models/m75", "--max-num-seqs", "1"]


async def test_a_state_that_cannot_be_read_holds_everything(operator: Operator, make: Make) -> None:
    """The schema refuses nonsense, so what is left is a word that another version of the operator has written."""
    deployment = await make(OWNED)
    template = template_hash(deployment)
    stable = {"revision": "aaaa1111", "config": {"maxNumSeqs": 1}, "template": template}
    decision = {"outcome": "SetAside", "reason": "SomethingNew", "message": "", "at": LONG_AGO}
    await operator.persist(phase="Stable", stable=stable, decision=decision)
    await operator.once()
    ready = await operator.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "status.rollout" in ready["message"]
    assert (await operator.resource())["status"]["rollout"]["stable"]["revision"] == "aaaa1111", "it is kept as it is"
    assert await operator.world.kube.list(DEPLOYMENTS, operator.key.namespace) == []
    assert await operator.writes() == []


async def test_a_verb_that_is_not_granted_is_a_condition_that_names_it_until_it_is(
    operator: Operator, make: Make, cluster: Handle, namespace: str, tmp_path: Path
) -> None:
    """As with roles of one's own: Deployments may be read and not written."""
    await make(OWNED)
    cluster.kubectl("create", "serviceaccount", "operator", namespace=namespace)
    reads = ("pods", "services", "deployments.apps", "resourcequotas", "horizontalpodautoscalers.autoscaling")
    own = ("llmdeployments.trimtab.dev", "llmdeployments.trimtab.dev/status", "optimizationplans.trimtab.dev", "events")
    _grant(cluster, namespace, "reader", ("get", "list"), reads)
    _grant(cluster, namespace, "own", ("get", "list", "create", "patch"), (*own, "services"))
    token = cluster.kubectl("create", "token", "operator", namespace=namespace).strip()
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"] = [{"name": document["contexts"][0]["context"]["user"], "user": {"token": token}}]
    limited = tmp_path / "kubeconfig"
    limited.write_text(yaml.safe_dump(document))
    async with Kube.connect(limited, guard=lambda: True) as kube:
        settings = replace(operator.world.settings, namespaces=(namespace,))
        as_granted = Operator(replace(operator.world, kube=kube, settings=settings), operator.clock, namespace)
        await as_granted.once()
        ready = await as_granted.condition("Ready")
        assert (ready["status"], ready["reason"]) == ("False", "Forbidden")
        assert 'cannot patch resource "deployments" in API group "apps"' in ready["message"], ready["message"]
        assert "rbac.create=true" in ready["message"]
        assert [what for what in await as_granted.writes() if what[0] != "apply"] == []
        writes = kube.writes.total()
        await as_granted.once()
        assert kube.writes.total() == writes, "it is said once"
        # A read that is refused keeps the whole cycle from deciding, and is said as well.
        cluster.kubectl("delete", "rolebinding", "reader", namespace=namespace)
        _until_allowed(cluster, namespace, "no")
        for _ in range(5):  # the first one is tried again, and the other refusal must stay away for four
            with pytest.raises(Forbidden, match="deployments"):
                await as_granted.once()
        assert 'cannot list resource "deployments"' in (await as_granted.condition("Ready"))["message"]
        _grant(cluster, namespace, "writer", ("get", "list", "create", "patch"), reads)
        _until_allowed(cluster, namespace, "yes")
        for _ in range(4):
            await as_granted.once()
        assert (await as_granted.condition("Ready"))["reason"] == "Starting"
        deployments = await kube.list(DEPLOYMENTS, namespace)
        assert len(deployments) == 1


def _grant(cluster: Handle, namespace: str, name: str, verbs: tuple[str, ...], resources: tuple[str, ...]) -> None:
    flags = [*(f"--verb={verb}" for verb in verbs), *(f"--resource={resource}" for resource in resources)]
    cluster.kubectl("create", "role", name, *flags, namespace=namespace)
    subject = (f"--role={name}", f"--serviceaccount={namespace}:operator")
    cluster.kubectl("create", "rolebinding", name, *subject, namespace=namespace)


def _until_allowed(cluster: Handle, namespace: str, answer: str) -> None:
    """The API server's authorizer hears of a role binding a moment after it is written."""
    whom = f"--as=system:serviceaccount:{namespace}:operator"

    def is_known() -> bool:
        said = cluster.kubectl("auth", "can-i", "list", "deployments", whom, namespace=namespace, check=False)
        return said.strip() == answer

    until(f"the answer to `kubectl auth can-i` is {answer}", is_known, seconds=60, every=0.05)


async def test_an_autoscaler_on_one_revision_keeps_its_replicas_and_is_said(
    operator: Operator, make: Make, kube: Kube
) -> None:
    deployment = await make(OWNED)
    await operator.once()
    (live,) = await kube.list(DEPLOYMENTS, operator.key.namespace)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": live["metadata"]["name"]}
    scaler = {
        "metadata": {"name": "busy", "namespace": operator.key.namespace},
        "spec": {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 4},
    }
    await kube.create(HPAS, scaler)
    operator.clock.now += 60.0  # the namespace is looked at once in a while
    await kube.merge_patch(DEPLOYMENTS, operator.key.namespace, live["metadata"]["name"], _replicas(3))
    await operator.patch(_replicas(1))
    await operator.once()
    (live,) = await kube.list(DEPLOYMENTS, operator.key.namespace)
    assert live["spec"]["replicas"] == 3, "they are the autoscaler's"
    workloads = await read_workloads(
        kube, deployment, await NeighbourMemory().read(kube, operator.key.namespace, 1.0), clusterwide=True
    )
    assert "HorizontalPodAutoscaler busy points at Deployment" in workloads.revision_scaler
    assert "Point its scaleTargetRef at the LLMDeployment chat" in workloads.revision_scaler


def _replicas(number: int) -> dict[str, Any]:
    return {"spec": {"replicas": number}}


async def test_a_route_that_is_not_there_is_a_condition_and_nothing_else_waits_for_it(
    operator: Operator, make: Make, kube: Kube
) -> None:
    await make(OWNED, rollout={"route": {"name": "chat"}})
    await operator.once()
    told = await operator.condition("RouteReady")
    assert (told["status"], told["reason"]) == ("False", "RouteNotUsable")
    assert "There is no HTTPRoute chat" in told["message"]
    assert len(await kube.list(DEPLOYMENTS, operator.key.namespace)) == 1, "the service itself is created"
    revision = (await operator.resource())["status"]["rollout"]["stable"]["revision"]
    for name in ("chat-stable", "chat-canary"):
        service = await kube.get(SERVICES, operator.key.namespace, name)
        assert service is not None and service["spec"]["selector"]["trimtab.dev/revision"] == revision
    await operator.pods_are_pending(2)
    await operator.once()
    assert await operator.writes() == []
    await operator.patch({"spec": {"rollout": {"route": None}}})
    await operator.once()
    await operator.once()
    for name in ("chat-stable", "chat-canary"):
        service = await kube.get(SERVICES, operator.key.namespace, name)
        assert service is not None and "trimtab.dev/revision" not in service["spec"]["selector"]
    conditions = (await operator.resource())["status"]["conditions"]
    assert [item for item in conditions if item["type"] == "RouteReady"] == []


async def test_a_deleted_resource_is_forgotten(operator: Operator, make: Make) -> None:
    await make(OWNED)
    await operator.once()
    await operator.world.kube.delete(LLM_DEPLOYMENTS, *operator.key)
    assert await operator.once() is None
    assert await operator.writes() == []


@pytest.mark.parametrize("asked", ["stable", "candidate"])
async def test_only_a_request_to_roll_back_the_trial_itself_ends_it(operator: Operator, make: Make, asked: str) -> None:
    """The annotation stays on the resource: one that named an earlier trial must not end a later one."""
    deployment = await make(OWNED)
    template = template_hash(deployment)
    stable, wanted = EngineConfig({"maxNumSeqs": 1}), EngineConfig({"maxNumSeqs": 2})
    revisions = {"stable": revision_name(stable, template), "candidate": revision_name(wanted, template)}
    operator.clock.now = 1_767_225_600.0 + 30.0
    await operator.persist(
        phase="CanaryStarting",
        stable={"revision": revisions["stable"], "config": dict(stable), "template": template},
        candidate={
            "revision": revisions["candidate"],
            "config": dict(wanted),
            "template": template,
            "source": "User",
        },
        userConfig=dict(stable),
        userTemplate=template,
    )
    await operator.patch({"metadata": {"annotations": {ROLLBACK: revisions[asked]}}})
    await operator.once()
    status = (await operator.resource())["status"]
    ended = [(attempt["revision"], attempt["reason"]) for attempt in status.get("attempts") or []]
    if asked == "candidate":
        assert ended == [(revisions["candidate"], "RolledBackByUser")]
        assert status["phase"] == "Stable"
    else:
        assert ended == []
        assert status["phase"] == "CanaryStarting"


async def test_the_metrics_condition_says_that_there_is_nothing_to_read_yet(operator: Operator, make: Make) -> None:
    await make(OWNED, replicas=0)
    await operator.once()
    metrics = await operator.condition("MetricsAvailable")
    assert (metrics["status"], metrics["reason"]) == ("False", "MetricsMissing")
    assert await operator.world.kube.list(PODS, operator.key.namespace) == []
    assert await operator.world.kube.get(SERVICES, operator.key.namespace, "chat") is not None


async def test_an_unreachable_prometheus_is_named_and_creates_no_write_of_its_own(
    operator: Operator, make: Make
) -> None:
    await make(OWNED)
    await operator.once()
    await operator.pods_are_pending(2)
    await operator.once()
    metrics = await operator.condition("MetricsAvailable")
    assert (metrics["status"], metrics["reason"]) == ("False", "PrometheusUnreachable")
    assert await operator.writes() == []


async def test_a_probe_set_that_cannot_be_used_is_a_condition_until_it_is_mended(
    operator: Operator, make: Make, resources: Handle
) -> None:
    await make(OWNED, quality={"probes": {"configMap": "trimtab-probes"}})
    await operator.once()
    gate = await operator.condition("QualityGate")
    assert (gate["status"], gate["reason"]) == ("False", "QualityProbesInvalid")
    assert "no such ConfigMap" in gate["message"]
    texts = {f"t{number}": f"A text with the number {number} in it." for number in range(12)}
    probes = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "trimtab-probes"}, "data": texts}
    resources.kubectl("create", "--filename=-", namespace=operator.key.namespace, stdin=json.dumps(probes))
    await operator.once()
    gate = await operator.condition("QualityGate")
    assert (gate["status"], gate["reason"]) == ("True", "QualityGateReady")
    assert "12 texts" in gate["message"]

"""Traffic by weight on the real API server, with the Gateway API's own HTTPRoute: what is written, and by whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.gateway_api import install
from tests.cluster.handle import Handle
from tests.reconcile.conftest import ADOPTED, OWNED, Make
from trimtab.api.names import DEPLOYMENT_LABEL, REVISION_LABEL
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.kube.client import Kube
from trimtab.kube.errors import Conflict, Invalid
from trimtab.kube.kinds import HTTP_ROUTES, LLM_DEPLOYMENTS, SERVICES
from trimtab.model.reason import Reason
from trimtab.model.rollout import RouteFacts, ServeOnly, ShareTraffic
from trimtab.reconcile.perform import perform, performing_failed
from trimtab.reconcile.routes import WEIGHTS_MANAGER, ContestedError, Weighing
from trimtab.reconcile.workloads import Workloads, read_workloads
from trimtab.render import template_hash

pytestmark = pytest.mark.cluster

ROUTED = {"rollout": {"route": {"name": "chat"}}}
HEADER = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-team", "value": "search"}]}}


@pytest.fixture(scope="session", autouse=True)
def gateway_api(resources: Handle) -> None:
    install(resources)


def route(namespace: str, *weights: int | None, other: str = "") -> dict[str, Any]:
    """Two rules: one that shares the traffic between both Services, and one that leads elsewhere."""
    names = ("chat-stable", "chat-canary", *((other,) if other else ()))
    given = (*weights, *(None for _ in range(len(names) - len(weights))))
    backends = [
        {"name": name, "port": 8000, **({} if weight is None else {"weight": weight})}
        for name, weight in zip(names, given, strict=True)
    ]
    shared = {"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}], "filters": [HEADER]}
    elsewhere = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/docs"}}],
        "backendRefs": [{"name": "docs", "port": 80}],
    }
    return {
        "metadata": {"name": "chat", "namespace": namespace},
        "spec": {
            "parentRefs": [{"name": "public"}],
            "hostnames": ["chat.example.com"],
            "rules": [{**shared, "backendRefs": backends}, elsewhere],
        },
    }


async def read(kube: Kube, deployment: LLMDeployment) -> Workloads:
    return await read_workloads(kube, deployment, clusterwide=True)


async def share(kube: Kube, deployment: LLMDeployment, action: ShareTraffic, weighing: Weighing | None = None) -> None:
    workloads = await read(kube, deployment)
    await perform(kube, deployment, workloads, template_hash(deployment), (action,), weighing, 1000.0)


async def facts(kube: Kube, deployment: LLMDeployment) -> RouteFacts:
    found = (await read(kube, deployment)).route
    assert found is not None and found.facts is not None
    return found.facts


async def live(kube: Kube, namespace: str) -> dict[str, Any]:
    found = await kube.get(HTTP_ROUTES, namespace, "chat")
    assert found is not None
    return found


def weights(found: dict[str, Any]) -> list[tuple[str, int]]:
    return [(item["name"], item["weight"]) for item in found["spec"]["rules"][0]["backendRefs"]]


async def selected(kube: Kube, namespace: str, name: str) -> dict[str, str]:
    found = await kube.get(SERVICES, namespace, name)
    assert found is not None
    return dict(found["spec"]["selector"])


async def test_both_services_select_a_revision_each_and_only_the_weights_change(
    kube: Kube, make: Make, namespace: str
) -> None:
    before = await kube.create(HTTP_ROUTES, route(namespace))
    deployment = await make(OWNED, **ROUTED)
    assert await facts(kube, deployment) == RouteFacts("", "", 50, 50), "without weights both have the same"
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", 20))
    assert await selected(kube, namespace, "chat-stable") == {DEPLOYMENT_LABEL: "chat", REVISION_LABEL: "aaaa1111"}
    assert await selected(kube, namespace, "chat-canary") == {DEPLOYMENT_LABEL: "chat", REVISION_LABEL: "bbbb2222"}
    after = await live(kube, namespace)
    assert weights(after) == [("chat-stable", 80), ("chat-canary", 20)]
    assert await facts(kube, deployment) == RouteFacts("aaaa1111", "bbbb2222", 20, 20)
    for found in (before, after):
        for backend in found["spec"]["rules"][0]["backendRefs"]:
            del backend["weight"]
    assert after["spec"] == before["spec"], "the rest of the route is as its owner wrote it"


async def test_what_is_as_it_should_be_is_not_written_again(kube: Kube, make: Make, namespace: str) -> None:
    await kube.create(HTTP_ROUTES, route(namespace, 1, 4))
    deployment = await make(OWNED, **ROUTED)
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", 80))
    writes = kube.writes.total()
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", 80))
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", None))
    assert kube.writes.total() == writes
    assert weights(await live(kube, namespace)) == [("chat-stable", 1), ("chat-canary", 4)], "1 to 4 is 80 per cent"


async def test_a_route_that_changed_since_it_was_read_is_not_overwritten(
    kube: Kube, make: Make, namespace: str
) -> None:
    await kube.create(HTTP_ROUTES, route(namespace))
    deployment = await make(OWNED, **ROUTED)
    workloads = await read(kube, deployment)
    changed = {"spec": {"hostnames": ["other.example.com"]}}
    await kube.merge_patch(HTTP_ROUTES, namespace, "chat", changed)
    action = ShareTraffic("aaaa1111", "bbbb2222", 20)
    with pytest.raises(Conflict) as refused:
        await perform(kube, deployment, workloads, template_hash(deployment), (action,))
    assert performing_failed(refused.value) is None, "the next look decides anew"
    assert weights(await live(kube, namespace)) == [("chat-stable", 1), ("chat-canary", 1)]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "There is no HTTPRoute chat"),
        ({"other": "someone-else"}, "Rule 1 of HTTPRoute chat must name the Services chat-stable and chat-canary"),
    ],
    ids=["no route", "a third backend"],
)
async def test_a_route_that_cannot_be_used_says_why(
    kube: Kube, make: Make, namespace: str, found: dict[str, str] | None, says: str
) -> None:
    if found is not None:
        await kube.create(HTTP_ROUTES, route(namespace, **found))
    deployment = await make(OWNED, **ROUTED)
    told = await facts(kube, deployment)
    assert told.obstacle is Reason.ROUTE_NOT_USABLE and says in told.message
    await share(kube, deployment, ShareTraffic("aaaa1111", "aaaa1111", 0))
    assert kube.writes["patch", "HTTPRoute"] == 0


async def test_rules_that_another_manager_applies_are_left_alone_unless_the_spec_overrides(
    kube: Kube, make: Make, namespace: str
) -> None:
    await kube.apply(HTTP_ROUTES, route(namespace, 100, 0), force=False, manager="argocd-controller")
    deployment = await make(OWNED, **ROUTED)
    told = await facts(kube, deployment)
    assert told.obstacle is Reason.FIELD_CONFLICT
    assert "argocd-controller" in told.message and "spec.rollout.route.fieldConflicts" in told.message
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", 20))
    assert weights(await live(kube, namespace)) == [("chat-stable", 100), ("chat-canary", 0)]
    override = {"spec": {"rollout": {"route": {"name": "chat", "fieldConflicts": "Override"}}}}
    deployment = LLMDeployment.model_validate(await kube.merge_patch(LLM_DEPLOYMENTS, namespace, "chat", override))
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", 20))
    after = await live(kube, namespace)
    assert weights(after) == [("chat-stable", 80), ("chat-canary", 20)]
    assert WEIGHTS_MANAGER in {entry["manager"] for entry in after["metadata"]["managedFields"]}


async def test_whoever_sets_other_weights_again_and_again_is_named_and_not_fought(
    kube: Kube, make: Make, namespace: str
) -> None:
    await kube.create(HTTP_ROUTES, route(namespace, 100, 0))
    deployment, weighing = await make(OWNED, **ROUTED), Weighing()
    action = ShareTraffic("aaaa1111", "bbbb2222", 20)
    for _ in range(3):
        await share(kube, deployment, action, weighing)
        again = await live(kube, namespace)
        again["spec"]["rules"] = route(namespace, 100, 0)["spec"]["rules"]
        await kube.replace(HTTP_ROUTES, again)
    with pytest.raises(ContestedError, match="are changed by trimtab each time") as contested:
        await share(kube, deployment, action, weighing)
    problem = performing_failed(contested.value)
    assert problem is not None and problem.reason is Reason.FIELD_CONFLICT
    assert weights(await live(kube, namespace)) == [("chat-stable", 100), ("chat-canary", 0)]


async def test_a_share_is_taken_back_also_from_a_route_that_has_another_owner_since(
    kube: Kube, make: Make, namespace: str
) -> None:
    await kube.create(HTTP_ROUTES, route(namespace))
    deployment = await make(OWNED, **ROUTED)
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", 20))
    marked = {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "chat:HTTPRoute"}}}
    await kube.merge_patch(HTTP_ROUTES, namespace, "chat", marked)
    assert (await facts(kube, deployment)).obstacle is Reason.FIELD_CONFLICT
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", 40))
    assert weights(await live(kube, namespace)) == [("chat-stable", 80), ("chat-canary", 20)]
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", 0))
    assert weights(await live(kube, namespace)) == [("chat-stable", 100), ("chat-canary", 0)]


async def test_a_route_that_the_spec_names_no_more_is_left_and_its_services_select_all(
    kube: Kube, make: Make, namespace: str
) -> None:
    await kube.create(HTTP_ROUTES, route(namespace))
    deployment = await make(OWNED, **ROUTED)
    await share(kube, deployment, ShareTraffic("aaaa1111", "bbbb2222", 20))
    raw = await kube.merge_patch(LLM_DEPLOYMENTS, namespace, "chat", {"spec": {"rollout": {"route": None}}})
    condition = {"type": "RouteReady", "status": "True", "reason": "RouteReady"}
    deployment = LLMDeployment.model_validate({**raw, "status": {"conditions": [condition]}})
    workloads = await read(kube, deployment)
    assert workloads.route is not None and workloads.route.facts is None and workloads.route.told is not None
    await perform(kube, deployment, workloads, template_hash(deployment), ())
    for name in ("chat-stable", "chat-canary"):
        assert await selected(kube, namespace, name) == {DEPLOYMENT_LABEL: "chat"}
    left = (await read(kube, deployment)).route
    assert left is not None and left.told is None, "then nothing is left to say"


async def test_a_service_of_the_same_name_that_is_somebody_elses_is_left_alone(
    kube: Kube, make: Make, namespace: str
) -> None:
    await kube.create(HTTP_ROUTES, route(namespace))
    port = {"name": "http", "port": 80, "protocol": "TCP"}
    theirs = {
        "metadata": {"name": "chat-canary", "namespace": namespace},
        "spec": {"selector": {"app": "other"}, "ports": [port]},
    }
    await kube.create(SERVICES, theirs)
    deployment = await make(OWNED, **ROUTED)
    told = await facts(kube, deployment)
    assert told.obstacle is Reason.ROUTE_NOT_USABLE and "chat-canary is there already" in told.message
    await share(kube, deployment, ShareTraffic("aaaa1111", "aaaa1111", 0))
    assert await selected(kube, namespace, "chat-canary") == {"app": "other"}


async def test_the_api_server_refuses_a_route_on_an_adopted_workload(kube: Kube, make: Make) -> None:
    with pytest.raises(Invalid, match="share the traffic of its own Service"):
        await make(ADOPTED, **ROUTED)


async def test_blue_green_switches_the_common_service_and_back(kube: Kube, make: Make, namespace: str) -> None:
    deployment = await make(OWNED)
    template = template_hash(deployment)
    await perform(kube, deployment, await read(kube, deployment), template, ())
    assert await selected(kube, namespace, "chat") == {DEPLOYMENT_LABEL: "chat"}
    for only in ("bbbb2222", "aaaa1111"):
        await perform(kube, deployment, await read(kube, deployment), template, (ServeOnly(only),))
        assert await selected(kube, namespace, "chat") == {DEPLOYMENT_LABEL: "chat", REVISION_LABEL: only}
        workloads = await read(kube, deployment)
        assert workloads.served == only
        writes = kube.writes.total()
        await perform(kube, deployment, workloads, template, (ServeOnly(only),))
        assert kube.writes.total() == writes, "a switch that was made is not made again"
    await perform(kube, deployment, await read(kube, deployment), template, ())
    assert await selected(kube, namespace, "chat") == {DEPLOYMENT_LABEL: "chat"}, "then all revisions serve again"

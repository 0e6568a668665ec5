"""The verbs, the errors and the guard against the real API server."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.control_plane import ETCD_CLIENT_PORT
from tests.cluster.handle import Handle
from trimtab.kube.client import Kube
from trimtab.kube.errors import Conflict, Forbidden, Gone, Invalid, KubeError, NotFound, NotLeader, Unavailable
from trimtab.kube.kinds import DEPLOYMENTS, HPAS, KINDS, NODES, PODS, SERVICES, Kind
from trimtab.kube.transport import ApiTransport, Request, api_client

pytestmark = pytest.mark.cluster


def deployment(namespace: str, name: str = "web", *, replicas: int = 0, cpu: str = "10m") -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "engine", "image": "none.invalid/none:1", "resources": {"requests": {"cpu": cpu}}}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


async def test_an_applied_object_is_ours_and_applying_it_again_changes_nothing(kube: Kube, namespace: str) -> None:
    first = await kube.apply(DEPLOYMENTS, deployment(namespace), force=False)
    managers = {entry["manager"] for entry in first["metadata"]["managedFields"]}
    assert managers == {"trimtab"}
    again = await kube.apply(DEPLOYMENTS, deployment(namespace), force=False)
    assert again["metadata"]["generation"] == first["metadata"]["generation"]
    got = await kube.get(DEPLOYMENTS, namespace, "web")
    assert got is not None
    assert got["metadata"]["uid"] == first["metadata"]["uid"]
    assert kube.writes == {("apply", "Deployment"): 2}


async def test_a_field_of_somebody_else_is_a_conflict_that_names_them_and_the_field(
    kube: Kube, cluster: Handle, namespace: str
) -> None:
    await kube.apply(DEPLOYMENTS, deployment(namespace, replicas=0), force=False)
    theirs = {"apiVersion": "apps/v1", "kind": "Deployment", **deployment(namespace, replicas=1)}
    words = ("apply", "--server-side", "--force-conflicts", "--field-manager=argocd", "--filename=-")
    cluster.kubectl(*words, namespace=namespace, stdin=yaml.safe_dump(theirs))
    with pytest.raises(Conflict) as refused:
        await kube.apply(DEPLOYMENTS, deployment(namespace, replicas=0), force=False)
    assert refused.value.managers == ("argocd",)
    assert refused.value.fields == (".spec.replicas",)
    assert "argocd" in str(refused.value)
    forced = await kube.apply(DEPLOYMENTS, deployment(namespace, replicas=0), force=True)
    assert forced["spec"]["replicas"] == 0


async def test_what_the_server_refuses_names_the_field(kube: Kube, namespace: str) -> None:
    with pytest.raises(Invalid) as refused:
        await kube.apply(DEPLOYMENTS, deployment(namespace, replicas=-1), force=False)
    assert refused.value.fields == ("spec.replicas",)
    with pytest.raises(Invalid, match="quantities"):
        await kube.apply(DEPLOYMENTS, deployment(namespace, cpu="much"), force=False)
    assert await kube.get(DEPLOYMENTS, namespace, "web") is None


async def test_a_dry_run_says_what_would_happen_and_writes_nothing(cluster: Handle, namespace: str) -> None:
    async with Kube.connect(cluster.kubeconfig, guard=lambda: False) as reader:
        answer = await reader.apply(DEPLOYMENTS, deployment(namespace), force=False, dry_run=True)
        assert answer["spec"]["replicas"] == 0
        assert await reader.get(DEPLOYMENTS, namespace, "web") is None
        assert reader.writes == {}


async def test_without_the_lease_nothing_is_written(cluster: Handle, namespace: str) -> None:
    told: list[tuple[str, str, str]] = []
    async with Kube.connect(
        cluster.kubeconfig, guard=lambda: False, on_write=lambda *words: told.append(words)
    ) as follower:
        body = deployment(namespace)
        with pytest.raises(NotLeader):
            await follower.apply(DEPLOYMENTS, body, force=True)
        with pytest.raises(NotLeader):
            await follower.create(DEPLOYMENTS, body)
        with pytest.raises(NotLeader):
            await follower.delete(DEPLOYMENTS, namespace, "web")
        with pytest.raises(NotLeader):
            await follower.create_event({"metadata": {"name": "x", "namespace": namespace}})
        assert await follower.list(DEPLOYMENTS, namespace) == []
    assert [outcome for _, _, outcome in told] == ["NotLeader"] * 4


async def test_a_missing_object_is_none_and_deleting_it_is_no_error(kube: Kube, namespace: str) -> None:
    assert await kube.get(DEPLOYMENTS, namespace, "absent") is None
    assert await kube.delete(DEPLOYMENTS, namespace, "absent") is False


async def test_a_delete_with_a_uid_only_deletes_that_very_object(kube: Kube, namespace: str) -> None:
    await kube.apply(DEPLOYMENTS, deployment(namespace), force=False)
    with pytest.raises(Conflict):
        await kube.delete(DEPLOYMENTS, namespace, "web", uid="00000000-0000-0000-0000-000000000000")
    current = await kube.get(DEPLOYMENTS, namespace, "web")
    assert current is not None
    assert await kube.delete(DEPLOYMENTS, namespace, "web", uid=current["metadata"]["uid"])
    assert await kube.get(DEPLOYMENTS, namespace, "web") is None


async def test_lists_are_read_in_pages_and_selected_by_label(kube: Kube, namespace: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("trimtab.kube.client._PAGE", 2)
    for name in ("a", "b", "c", "d", "e"):
        await kube.apply(DEPLOYMENTS, deployment(namespace, name), force=False)
    everything = await kube.list(DEPLOYMENTS, namespace)
    assert [item["metadata"]["name"] for item in everything] == ["a", "b", "c", "d", "e"]
    assert {item["kind"] for item in everything} == {"Deployment"}
    assert {item["apiVersion"] for item in everything} == {"apps/v1"}
    assert [item["metadata"]["name"] for item in await kube.list(DEPLOYMENTS, namespace, "app=c")] == ["c"]
    assert len(await kube.list(DEPLOYMENTS, None, "app in (a,b)")) >= 2


async def test_a_replace_of_what_has_changed_since_is_a_conflict(kube: Kube, namespace: str) -> None:
    read = await kube.apply(DEPLOYMENTS, deployment(namespace), force=False)
    await kube.apply(DEPLOYMENTS, deployment(namespace, cpu="20m"), force=False)
    with pytest.raises(Conflict) as refused:
        await kube.replace(DEPLOYMENTS, read)
    assert refused.value.managers == ()


async def test_a_status_is_applied_beside_the_spec(kube: Kube, namespace: str) -> None:
    await kube.apply(DEPLOYMENTS, deployment(namespace), force=False)
    body = {
        "metadata": {"name": "web", "namespace": namespace},
        "status": {"conditions": [{"type": "Seen", "status": "True", "reason": "Test", "message": "m"}]},
    }
    answer = await kube.apply(DEPLOYMENTS, body, force=False, subresource="status")
    assert "Seen" in [condition["type"] for condition in answer["status"]["conditions"]]
    assert answer["spec"]["replicas"] == 0


async def test_a_kind_or_a_namespace_that_does_not_exist_is_not_found(kube: Kube, namespace: str) -> None:
    with pytest.raises(NotFound):
        await kube.list(Kind("Nothing", "nothing.example.org", "v1", "nothings"), namespace)
    with pytest.raises(NotFound, match="nowhere"):
        await kube.apply(DEPLOYMENTS, deployment("nowhere"), force=False)


async def test_the_other_kinds_can_be_listed(kube: Kube, namespace: str) -> None:
    nodes = await kube.list(NODES)
    assert nodes
    assert nodes[0]["kind"] == "Node"
    for kind in (PODS, SERVICES, HPAS):
        assert await kube.list(kind, namespace) == []
    assert [kind.name for kind in KINDS] == sorted(kind.name for kind in KINDS)


def test_a_list_position_that_is_too_old_is_gone(cluster: Handle) -> None:
    # etcd's JSON gateway; a revision that is forgotten already is an error and as good.
    gateway = f"http://127.0.0.1:{ETCD_CLIENT_PORT}/v3/kv/compaction"
    forget = urllib.request.Request(gateway, data=b'{"revision": "5"}', method="POST")
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(forget, timeout=10):
        pass
    transport = ApiTransport(api_client(cluster.kubeconfig))
    old = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0"  # resource version 1, start at "a"
    query = (("limit", "1"), ("continue", old))
    # Events are read from etcd itself; the API server answers for other kinds from its cache, which remembers longer.
    request = Request(method="GET", path="/api/v1/events", doing="list events", query=query)
    try:
        with pytest.raises(Gone):
            transport.send(request)
    finally:
        transport.close()


async def test_a_role_that_lacks_a_verb_is_forbidden(cluster: Handle, namespace: str, tmp_path: Path) -> None:
    cluster.kubectl("create", "serviceaccount", "nobody", namespace=namespace)
    token = cluster.kubectl("create", "token", "nobody", namespace=namespace).strip()
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"] = [{"name": document["contexts"][0]["context"]["user"], "user": {"token": token}}]
    limited = tmp_path / "kubeconfig"
    limited.write_text(yaml.safe_dump(document))
    async with Kube.connect(limited, guard=lambda: True) as client:
        with pytest.raises(Forbidden, match="nobody"):
            await client.list(PODS, namespace)
        with pytest.raises(Forbidden):
            await client.apply(DEPLOYMENTS, deployment(namespace), force=False)


async def test_a_server_that_is_not_there_is_unavailable(cluster: Handle, tmp_path: Path) -> None:
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    nowhere = tmp_path / "kubeconfig"
    nowhere.write_text(yaml.safe_dump(document))
    async with Kube.connect(nowhere, guard=lambda: True) as client:
        with pytest.raises(Unavailable):
            await client.list(NODES)


async def test_a_kubeconfig_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match="cluster configuration"):
        Kube.connect(tmp_path / "absent", guard=lambda: True)

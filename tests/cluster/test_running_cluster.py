"""What the running cluster promises to those who test against it. It is brought up where it is not, and left up."""

from __future__ import annotations

import json
import os
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import processes
from tests.cluster.audit import AuditLog
from tests.cluster.certificates import ADMIN
from tests.cluster.handle import CommandError, Handle
from tests.cluster.layout import NODE_ADDRESS, NODE_NAME, default_layout

pytestmark = pytest.mark.cluster

SERVER = """
apiVersion: v1
kind: Pod
metadata:
  name: engine
  labels: {app: engine}
  annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8000"}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: engine
    image: IMAGE
    resources: {limits: {nvidia.com/gpu: "1"}}
    readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: chat}
spec:
  type: NodePort
  selector: {app: engine}
  ports: [{port: 80, targetPort: 8000}]
"""
GREEDY = """
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  containers: [{name: greedy, image: IMAGE, resources: {limits: {nvidia.com/gpu: "5"}}}]
"""


def until(what: str, check: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s: {what}"
        time.sleep(0.5)


def query(cluster: Handle, expression: str) -> list[dict[str, str]]:
    url = f"{cluster.prometheus_here}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(url, timeout=10) as response:
        return [sample["metric"] for sample in json.load(response)["data"]["result"]]


@pytest.fixture
def engine(cluster: Handle, namespace: str, image: Callable[[str], str]) -> str:
    """The namespace with a running engine emulator behind a Service."""
    cluster.apply(SERVER.replace("IMAGE", image("testkit")), namespace=namespace)
    cluster.kubectl("wait", "pod/engine", "--for=condition=Ready", "--timeout=120s", namespace=namespace)
    return namespace


def test_an_annotated_pod_is_scraped_under_the_labels_of_the_community_charts(cluster: Handle, engine: str) -> None:
    selector = f'{{namespace="{engine}",pod="engine"}}'
    until("the pod is scraped", lambda: query(cluster, f"up{selector} == 1"))
    (labels,) = query(cluster, f"up{selector}")
    address = cluster.kubectl("get", "pod", "engine", "--output=jsonpath={.status.podIP}", namespace=engine)
    assert labels["node"] == NODE_NAME
    assert labels["app"] == "engine"
    assert labels["instance"] == f"{address}:8000"
    assert query(cluster, f"vllm:num_requests_running{selector}")


def test_the_kubelet_s_metrics_of_a_pod_carry_its_namespace_and_name(cluster: Handle, engine: str) -> None:
    for metric in ("container_memory_working_set_bytes", "container_cpu_usage_seconds_total"):
        expression = f'{metric}{{namespace="{engine}",pod="engine",container="engine"}}'
        until(f"{metric} is there", lambda expression=expression: query(cluster, expression))  # type: ignore[misc]


def test_pods_reach_services_and_prometheus_by_address_and_by_name(cluster: Handle, engine: str) -> None:
    # A Service leads to a pod a moment after the pod is ready: the rules are written by then, not at once.
    script = """
import sys, time, urllib.request
def status(url, attempts=60):
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except OSError:
        if not attempts:
            raise
        time.sleep(0.5)
        return status(url, attempts - 1)
print([status(url) for url in sys.argv[1:]])
"""
    address = cluster.kubectl("get", "service", "chat", "--output=jsonpath={.spec.clusterIP}", namespace=engine)
    urls = [
        f"http://{address}/health",
        "http://chat/health",
        f"http://chat.{engine}.svc.cluster.local/health",
        f"{cluster.prometheus_in_cluster}/-/ready",
        "http://prometheus.monitoring.svc:9090/-/ready",
    ]
    said = cluster.kubectl("exec", "engine", "--", "python3", "-c", script, *urls, namespace=engine)
    assert said.strip() == "[200, 200, 200, 200, 200]"


def test_a_name_that_does_not_exist_is_answered_at_once(cluster: Handle, engine: str) -> None:
    script = """
import socket
try:
    socket.getaddrinfo("nothing.example", 80)
except socket.gaierror as error:
    print(error.errno)
"""
    said = cluster.kubectl("exec", "engine", "--", "python3", "-c", script, namespace=engine)
    assert int(said) == -2  # the name is not known; -3 would be a name server that does not answer


def test_a_node_port_answers_on_this_machine_s_loopback_address(cluster: Handle, engine: str) -> None:
    path = "--output=jsonpath={.spec.ports[0].nodePort}"
    port = cluster.kubectl("get", "service", "chat", path, namespace=engine)
    until("the NodePort answers", lambda: processes.answers(f"http://127.0.0.1:{port}/health"))


def test_a_pod_that_asks_for_more_gpus_than_there_are_is_refused_by_the_scheduler(
    cluster: Handle, namespace: str, image: Callable[[str], str]
) -> None:
    cluster.apply(GREEDY.replace("IMAGE", image("testkit")), namespace=namespace)

    def refused() -> bool:
        pod = cluster.get("pod", "greedy", namespace=namespace)
        conditions = pod["status"].get("conditions", [])
        return any("Insufficient nvidia.com/gpu" in condition.get("message", "") for condition in conditions)

    until("the scheduler says why", refused)


def test_rbac_is_enforced(cluster: Handle, namespace: str) -> None:
    account = f"--as=system:serviceaccount:{namespace}:default"
    with pytest.raises(CommandError, match="Forbidden"):
        cluster.kubectl("get", "pods", account, namespace=namespace)
    assert cluster.kubectl("get", "pods", "--output=name", namespace=namespace) == ""


def test_the_audit_log_has_every_write_by_its_user_and_no_read(
    cluster: Handle, namespace: str, audit_log: AuditLog
) -> None:
    since = audit_log.now()
    cluster.kubectl("create", "configmap", "one", namespace=namespace)
    cluster.kubectl("label", "configmap", "one", "a=b", namespace=namespace)
    cluster.kubectl("get", "configmaps", namespace=namespace)
    writes = [write.what for write in audit_log.writes(since=since, user=ADMIN) if write.namespace == namespace]
    assert writes == [f"create configmaps {namespace}/one", f"patch configmaps {namespace}/one"]


def test_the_helm_that_is_given_is_a_real_helm_3_and_knows_the_server(cluster: Handle, namespace: str) -> None:
    assert cluster.helm("version", "--short").startswith("v3.19.")
    assert cluster.helm("list", "--output=json", namespace=namespace).strip() == "[]"


def test_nothing_listens_on_an_address_that_other_machines_reach(cluster: Handle) -> None:
    layout = default_layout()
    pids = [pid for pid, member in processes.members().items() if member == layout.member]
    sockets = {inode for pid in pids for inode in _socket_inodes(pid)}
    addresses = {address for address, inode in _listening() if inode in sockets}
    assert addresses
    loopback, bridge = "0100007F", _kernel_form(NODE_ADDRESS)
    assert addresses <= {loopback, bridge}


def _kernel_form(address: str) -> str:
    return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))


def _socket_inodes(pid: int) -> set[str]:
    found: set[str] = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            link = os.readlink(entry)
            if link.startswith("socket:["):
                found.add(link[len("socket:[") : -1])
    except OSError:
        pass
    return found


def _listening() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.append((fields[1].split(":")[0], fields[9]))
    return found

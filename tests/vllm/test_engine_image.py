"""The engine image in a pod of the cluster: no root, nothing writable but /tmp, and no request lost at its end."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.handle import Handle
from tests.e2e.waiting import until
from trimtab_engine.drain import understand

pytestmark = [pytest.mark.cluster, pytest.mark.vllm, pytest.mark.slow]

MANIFEST = Path(__file__).parent / "pods.yaml"
# What the guide in docs/engine/deploying.md applies; its image is nobody's.
EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/engine/kubernetes.yaml"
TOKEN = "0123456789abcdef0123456789abcdef"
# Asks one pod, from inside of it, for new limits, with the token that it has mounted.
CONFIGURE = """
import json, sys, urllib.request
token = open("/etc/trimtab/token/token").read()
request = urllib.request.Request(
    "http://127.0.0.1:8000/v1/optimization/configure",
    data=json.dumps({"limits": {"max_running_requests": 24}}).encode(),
    headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"},
)
sys.stdout.write(urllib.request.urlopen(request, timeout=30).read().decode())
"""


def follow(cluster: Handle, namespace: str, lines: list[str]) -> threading.Thread:
    """Collects the engine's log until its container has ended."""
    command = [str(cluster.kubectl_program), f"--namespace={namespace}", "logs", "--follow", "engine"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cluster.environment())

    def collect() -> None:
        with process:
            assert process.stdout is not None
            lines.extend(process.stdout)

    thread = threading.Thread(target=collect)
    thread.start()
    return thread


def taken(cluster: Handle, namespace: str) -> tuple[float, float]:
    """Requests that the engine holds, and those that it has answered."""
    path = f"/api/v1/namespaces/{namespace}/pods/engine:8000/proxy/metrics"
    reading = understand(cluster.kubectl("get", "--raw", path))
    return reading.in_flight or 0, reading.finished or 0


def has_limit(cluster: Handle, namespace: str, pod: str, running: int) -> bool:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}:8000/proxy/v1/optimization/status"
    return bool(json.loads(cluster.kubectl("get", "--raw", path))["limits"]["max_running_requests"] == running)


def test_a_deleted_pod_answers_its_eight_requests_before_it_ends(
    cluster: Handle, namespace: str, image: Callable[[str], str]
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    text = MANIFEST.read_text().replace("{engine}", image("engine-demo")).replace("{testkit}", image("testkit"))
    *engine, load = text.split("\n---\n")
    assert "name: load" in load
    cluster.apply(*engine, namespace=namespace)
    cluster.kubectl("wait", "pod/engine", "--for=condition=Ready", "--timeout=300s", namespace=namespace)
    log: list[str] = []
    follower = follow(cluster, namespace, log)
    _, probes = taken(cluster, namespace)
    cluster.apply(load, namespace=namespace)
    here = ended = 0.0
    while here + ended - probes < 8:
        here, ended = taken(cluster, namespace)
        assert cluster.get("pod", "load", namespace=namespace)["status"]["phase"] in {"Pending", "Running"}
    assert here > 0, "the pod is deleted while requests are inside"
    cluster.kubectl("delete", "pod", "engine", "--timeout=200s", namespace=namespace)
    follower.join(60)
    done = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", "pod/load", done, "--timeout=120s", namespace=namespace)
    summary: dict[str, Any] = json.loads(cluster.kubectl("logs", "load", namespace=namespace).splitlines()[-1])
    totals = summary["totals"]
    assert (totals["sent"], totals["succeeded"], totals["failed"]) == (8, 8, 0), totals["failures"]
    assert totals["output_tokens"] == 8 * 400
    assert any(line.startswith("drained: no request for 6 s") for line in log)
    assert any("[shutdown] EngineCore: request processing complete" in line for line in log)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["onnx", "deepspeed"])
def test_the_other_engines_serve_from_their_image(
    cluster: Handle, namespace: str, image: Callable[[str], str], engine: str
) -> None:
    """As an ordinary user, with nothing writable but /tmp; the pod is ready when the engine has computed a token."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    pod = next(one for one in yaml.safe_load_all(MANIFEST.read_text()) if one["kind"] == "Pod")
    (container,) = pod["spec"]["containers"]
    container |= {"image": image("engine-fallback"), "command": ["trimtab-engine"]}
    container["args"] = ["serve", "--model", "/models/m75"]
    container["env"].append({"name": "TRIMTAB_ENGINE_ENGINES__PREFERENCE", "value": f"[{engine}]"})
    cluster.apply(yaml.safe_dump(pod), namespace=namespace)
    cluster.kubectl("wait", "pod/engine", "--for=condition=Ready", "--timeout=300s", namespace=namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/engine:8000/proxy/health"
    health = json.loads(cluster.kubectl("get", "--raw", path))
    assert (health["status"], health["engine"]) == ("ok", engine)
    cluster.kubectl("exec", "engine", "--", "trimtab-engine", "alive", namespace=namespace)


@pytest.mark.long
def test_the_guide_leads_to_a_service_whose_limits_can_be_changed(
    cluster: Handle, namespace: str, image: Callable[[str], str]
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    cluster.kubectl("create", "secret", "generic", "engine-token", f"--from-literal=token={TOKEN}", namespace=namespace)
    text = EXAMPLE.read_text()
    (named,) = [line.split()[-1] for line in text.splitlines() if line.strip().startswith("image: ")]
    cluster.apply(text.replace(named, image("engine-demo")), namespace=namespace)
    cluster.kubectl("rollout", "status", "deployment/engine", "--timeout=400s", namespace=namespace)
    service = f"/api/v1/namespaces/{namespace}/services/engine:http/proxy"
    assert json.loads(cluster.kubectl("get", "--raw", f"{service}/health"))["status"] == "ok"
    status = json.loads(cluster.kubectl("get", "--raw", f"{service}/v1/optimization/status"))
    assert status["limits"]["max_running_requests"] == 16  # by the settings' ConfigMap
    configured = ("exec", "deployment/engine", "--", "python3", "-c", CONFIGURE)
    assert json.loads(cluster.kubectl(*configured, namespace=namespace))["limits"]["max_running_requests"] == 24
    # One pod was asked. The file reaches both, when the kubelet brings it.
    settings = {"settings.yaml": "limits: {max_running_requests: 32, max_queued_requests: 64}"}
    patch = json.dumps({"data": settings})
    cluster.kubectl("patch", "configmap", "engine-settings", "--type=merge", f"--patch={patch}", namespace=namespace)
    pods = [pod["metadata"]["name"] for pod in cluster.get("pods", namespace=namespace)["items"]]
    assert len(pods) == 2
    for pod in pods:
        until(f"{pod} takes the settings up", partial(has_limit, cluster, namespace, pod, 32), seconds=180)

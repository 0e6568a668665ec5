"""The engine image in a pod of the cluster: no root, nothing writable but /tmp, and no request lost at its end."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.handle import Handle
from trimtab_engine.drain import understand

pytestmark = [pytest.mark.cluster, pytest.mark.vllm, pytest.mark.slow]

MANIFEST = Path(__file__).parent / "pods.yaml"


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


def in_flight(cluster: Handle, namespace: str) -> float:
    path = f"/api/v1/namespaces/{namespace}/pods/engine:8000/proxy/metrics"
    return understand(cluster.kubectl("get", "--raw", path)).in_flight or 0


def test_a_deleted_pod_answers_its_eight_requests_before_it_ends(
    cluster: Handle, namespace: str, image: Callable[[str], str]
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    text = MANIFEST.read_text().replace("{engine}", image("engine-demo")).replace("{testkit}", image("testkit"))
    cluster.apply(text, namespace=namespace)
    cluster.kubectl("wait", "pod/engine", "--for=condition=Ready", "--timeout=300s", namespace=namespace)
    log: list[str] = []
    follower = follow(cluster, namespace, log)
    while in_flight(cluster, namespace) < 8:
        assert cluster.get("pod", "load", namespace=namespace)["status"]["phase"] in {"Pending", "Running"}
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

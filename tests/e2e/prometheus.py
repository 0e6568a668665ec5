"""The misbehaving Prometheus as a pod that the operator is pointed at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.e2e.access import Access, AnswerError
from tests.e2e.loadgen import restricted
from tests.e2e.waiting import until

_NAME = "prometheus-proxy"
_CONTROL = 9091


@dataclass(frozen=True, kw_only=True)
class PrometheusProxy:
    """The proxy in a namespace; `url` is for pods."""

    access: Access
    namespace: str
    url: str

    def behave(self, mode: str) -> None:
        """From now on: pass, refused, slow, html, nan or empty."""
        self.access.through_pod(self.namespace, _NAME, _CONTROL, "/mode", post={"mode": mode})

    def queries(self) -> int:
        """How many queries came since the last change."""
        return int(self.access.through_pod(self.namespace, _NAME, _CONTROL, "/state")["queries"])


def deploy(access: Access, namespace: str, image: str, upstream: str) -> PrometheusProxy:
    """Starts it in front of the cluster's Prometheus and waits until it answers."""
    script = Path(__file__).with_name("prometheus_proxy.py").read_text(encoding="utf-8")
    access.handle.apply(*_manifests(image, upstream, script), namespace=namespace)

    def answers() -> bool:
        try:
            access.through_pod(namespace, _NAME, _CONTROL, "/state")
        except AnswerError:
            return False
        return True

    until("the Prometheus proxy answers", answers, seconds=120)
    address = access.get(f"/api/v1/namespaces/{namespace}/services/{_NAME}")["spec"]["clusterIP"]
    return PrometheusProxy(access=access, namespace=namespace, url=f"http://{address}:9090")


def _manifests(image: str, upstream: str, script: str) -> list[str]:
    labels = {"app": _NAME}
    container = {
        "name": "proxy",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "/program/proxy.py", upstream],
        "ports": [{"containerPort": 9090}, {"containerPort": _CONTROL}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": restricted(),
        "volumeMounts": [{"name": "program", "mountPath": "/program", "readOnly": True}],
    }
    documents = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _NAME},
            "data": {"proxy.py": script},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _NAME},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 9090}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": _NAME, "labels": labels},
            "spec": {
                "containers": [container],
                "volumes": [{"name": "program", "configMap": {"name": _NAME}}],
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": False,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            },
        },
    ]
    return [str(yaml.safe_dump(document)) for document in documents]

"""A gateway of the Gateway API beside the local cluster: Traefik as a process, at the node's own address.

Pods reach it as they reach the API server, and it reaches pods at their own addresses.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import gateway_api, traefik
from tests.cluster.layout import NODE_ADDRESS, default_layout
from tests.cluster.processes import Commands
from tests.cluster.steps import StepError
from tests.e2e.access import Access
from tests.e2e.waiting import until
from tests.testkit.ports import free_port

_CONTROLLER = "traefik.io/gateway-controller"
_API = "/apis/gateway.networking.k8s.io/v1"


@dataclass(frozen=True)
class Gateway:
    """A Gateway in `namespace` that takes requests at `url`."""

    access: Access
    namespace: str
    name: str
    url: str

    def route(self, name: str, services: Sequence[str], port: int) -> None:
        """An HTTPRoute over /v1 to these Services, without weights, as a person makes it."""
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
            "backendRefs": [{"name": service, "port": port} for service in services],
        }
        spec = {"parentRefs": [{"name": self.name}], "rules": [rule]}
        self.access.request("POST", self._routes, _document("HTTPRoute", name, spec))

    def weights(self, route: str) -> dict[str, int]:
        """The weights of the route's backends, by Service."""
        spec = self.access.get(f"{self._routes}/{route}")["spec"]
        return {item["name"]: int(item.get("weight", 1)) for item in spec["rules"][0]["backendRefs"]}

    def accepts(self, route: str) -> bool:
        """Whether the gateway says that it takes the route and has found its Services."""
        status = self.access.get(f"{self._routes}/{route}").get("status") or {}
        told = [parent for parent in status.get("parents") or () if parent["controllerName"] == _CONTROLLER]
        true = {item["type"] for parent in told for item in parent["conditions"] if item["status"] == "True"}
        return {"Accepted", "ResolvedRefs"} <= true

    @property
    def _routes(self) -> str:
        return f"{_API}/namespaces/{self.namespace}/httproutes"


@contextlib.contextmanager
def running(access: Access, namespace: str, log: Path) -> Iterator[Gateway]:
    """Traefik and a Gateway of its class in `namespace`. Builds Traefik where that was not done before."""
    if os.environ.get("CLUSTER", "local") != "local":
        raise StepError(
            "the gateway is a process at the local cluster's node; there is none with CLUSTER set otherwise"
        )
    layout = default_layout()
    program = traefik.build(layout, Commands(layout, logs=layout.cache / "logs"))
    gateway_api.install(access.handle, gateway_api.STANDARD)
    name, port = f"e2e-{uuid.uuid4().hex[:6]}", free_port(NODE_ADDRESS)
    gateway = Gateway(access=access, namespace=namespace, name=name, url=f"http://{NODE_ADDRESS}:{port}")
    access.request("POST", f"{_API}/gatewayclasses", _document("GatewayClass", name, {"controllerName": _CONTROLLER}))
    try:
        listener = {"name": "web", "port": port, "protocol": "HTTP"}
        spec = {"gatewayClassName": name, "listeners": [listener]}
        access.request("POST", f"{_API}/namespaces/{namespace}/gateways", _document("Gateway", name, spec))
        with log.open("wb") as output, _process([str(program), *_arguments(namespace, port)], access, output):
            until("Traefik answers", lambda: _answers(f"{gateway.url}/ping"), seconds=60, say=log.read_text)
            yield gateway
    finally:
        access.request("DELETE", f"{_API}/gatewayclasses/{name}")


@contextlib.contextmanager
def _process(command: Sequence[str], access: Access, output: Any) -> Iterator[None]:
    environment = {**os.environ, "KUBECONFIG": str(access.handle.kubeconfig)}
    process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _arguments(namespace: str, port: int) -> list[str]:
    return [
        f"--entrypoints.web.address={NODE_ADDRESS}:{port}",
        "--providers.kubernetesgateway=true",
        f"--providers.kubernetesgateway.namespaces={namespace}",
        f"--providers.kubernetesgateway.statusaddress.ip={NODE_ADDRESS}",
        "--ping=true",
        "--ping.entrypoint=web",
        "--log.level=INFO",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    ]


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": _API.removeprefix("/apis/"), "kind": kind, "metadata": {"name": name}, "spec": spec}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

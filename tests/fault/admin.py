"""The tests' own hands on the API server: plain calls, past every proxy."""

from __future__ import annotations

from typing import Any

from tests.fault.control_plane import ControlPlane
from trimtab.kube.errors import NotFound
from trimtab.kube.kinds import PODS, Kind
from trimtab.kube.transport import ApiTransport, Request, api_client

Object = dict[str, Any]
NAMESPACES = Kind("Namespace", "", "v1", "namespaces", namespaced=False)


class Admin:
    """One connection as the administrator."""

    def __init__(self, plane: ControlPlane) -> None:
        self.sent = 0  # writes
        self._transport = ApiTransport(api_client(plane.kubeconfig), connect_timeout=60.0, read_timeout=180.0)

    def close(self) -> None:
        self._transport.close()

    def _send(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", query: str = ""
    ) -> Object:
        self.sent += method != "GET"
        if method in ("POST", "PATCH"):
            query = "fieldManager=somebody"  # else the operator's own name would be taken, from its client's header
        pairs = tuple(tuple(pair.split("=", 1)) for pair in query.split("&") if pair)
        return self._transport.send(
            Request(method=method, path=path, doing=f"{method} {path}", body=body, content_type=kind, query=pairs)  # type: ignore[arg-type]
        )

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        try:
            return self._send("GET", kind.path(namespace, name))
        except NotFound:
            return None

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """The object, which must be there."""
        return self._send("GET", kind.path(namespace, name))

    def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Object]:
        query = f"labelSelector={selector}" if selector else ""
        return list(self._send("GET", kind.path(namespace), query=query).get("items") or ())

    def create(self, kind: Kind, body: Object) -> Object:
        document = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        return self._send("POST", kind.path(body["metadata"].get("namespace")), document)

    def patch(self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        """A JSON merge patch."""
        return self._send("PATCH", kind.path(namespace, name, subresource), body, "application/merge-patch+json")

    def delete(self, kind: Kind, namespace: str, name: str, *, propagation: str = "Background") -> None:
        self._send("DELETE", kind.path(namespace or None, name), {"propagationPolicy": propagation})

    def set_pod_status(self, pod: Object, status: Object) -> None:
        """As a kubelet writes it; a pod that is gone by now is none of ours."""
        metadata = pod["metadata"]
        try:
            self.patch(PODS, metadata["namespace"], metadata["name"], {"status": status}, "status")
        except NotFound:
            return

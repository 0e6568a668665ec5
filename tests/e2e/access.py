"""One connection to the API server, for programs that look every second: kubectl would cost a process each time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.cluster.handle import Handle

LLMDEPLOYMENTS = "/apis/trimtab.dev/v1alpha1/namespaces/{namespace}/llmdeployments"
PLANS = "/apis/trimtab.dev/v1alpha1/namespaces/{namespace}/optimizationplans"
_TYPES = {"PATCH": "application/merge-patch+json", "POST": "application/json"}


class AnswerError(Exception):
    """The API server, or a pod behind it, answered with an error; `status` is 0 where nothing answered."""

    def __init__(self, what: str, status: int, text: str) -> None:
        super().__init__(f"{what}: {status} {text[:500]}")
        self.status = status

    @property
    def passes(self) -> bool:
        """Whether the same may be asked again: nobody answered, or who did had too much to do."""
        return self.status in {0, 429} or self.status >= 500


class Access:
    """Reads and writes JSON documents by path."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self._api: Any = config.new_client_from_config(config_file=str(handle.kubeconfig))  # type: ignore[no-untyped-call]

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        seconds: float = 15.0,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """The decoded answer. Raises AnswerError."""
        text = self._asked(method, path, body, seconds=seconds, query=query)
        return json.loads(text) if text else None

    def text(self, path: str) -> str:
        """A document that is not JSON. Raises AnswerError."""
        return self._asked("GET", path, None, seconds=15.0, query=None).decode()

    def _asked(self, method: str, path: str, body: object, *, seconds: float, query: Mapping[str, str] | None) -> bytes:
        headers = {"Accept": "application/json"}
        if method in _TYPES:
            headers["Content-Type"] = _TYPES[method]
        what = f"{method} {path}"
        try:
            wanted = self._api.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            answer = self._api.call_api(*wanted, _request_timeout=seconds)
            text = answer.read()
        except ApiException as error:
            raise AnswerError(what, error.status or 0, str(error.body or error.reason)) from error
        except OSError as error:
            raise AnswerError(what, 0, str(error)) from error
        except Exception as error:  # urllib3's own errors are no OSError
            if type(error).__module__.partition(".")[0] != "urllib3":
                raise
            raise AnswerError(what, 0, str(error)) from error
        if answer.status >= 400:
            raise AnswerError(what, answer.status, text.decode(errors="replace"))
        return bytes(text)

    def get(self, path: str, **query: str) -> Any:
        """A document."""
        return self.request("GET", path, query=query)

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The items of a list."""
        return list(self.get(path, **query)["items"])

    def resource(self, namespace: str, name: str) -> dict[str, Any]:
        """An LLMDeployment."""
        return dict(self.get(f"{LLMDEPLOYMENTS.format(namespace=namespace)}/{name}"))

    def patch_resource(self, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """A merge patch on an LLMDeployment, as a user's `kubectl patch --type=merge` makes it."""
        return dict(self.request("PATCH", f"{LLMDEPLOYMENTS.format(namespace=namespace)}/{name}", dict(patch)))

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Pods with these labels."""
        query = {"labelSelector": selector} if selector else {}
        return self.items(f"/api/v1/namespaces/{namespace}/pods", **query)

    def through_pod(
        self,
        namespace: str,
        pod: str,
        port: int,
        path: str,
        *,
        post: object = None,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer of an HTTP server in a pod, by way of the API server, which works on every kind of cluster."""
        target = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"
        return self.request("GET" if post is None else "POST", target, post, query=query)

    def watched_pods(self, namespace: str, selector: str, stream: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Pods as they are and as they change: (ADDED, MODIFIED or DELETED, pod), until the server ends the watch.

        `stream` is a `kubernetes.watch.Watch`, with which another thread can end it.
        """
        listing = client.CoreV1Api(self._api).list_namespaced_pod
        for event in stream.stream(listing, namespace=namespace, label_selector=selector, timeout_seconds=3600):
            yield str(event["type"]), dict(event["raw_object"])

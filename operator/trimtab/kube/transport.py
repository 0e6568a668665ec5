"""One HTTP request to the API server, on the connection pool and the credentials of the official client."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

from trimtab.kube.errors import KubeError, Unavailable, error_from

# The client writes certificates of a kubeconfig into files and names them to other threads before they are full.
_loading = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`doing` is for messages: "apply Deployment default/a"."""

    method: str
    path: str
    doing: str
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    content_type: str = "application/json"


class Transport(Protocol):
    """What sends a request; blocking, called from a worker thread."""

    def send(self, request: Request) -> dict[str, Any]: ...

    def close(self) -> None: ...


class ApiTransport:
    """Sends with time-outs, without redirects and without retries: whether to try again is the caller's decision."""

    def __init__(
        self, api: client.ApiClient, *, connect_timeout: float = 3.0, read_timeout: float = 10.0, connections: int = 8
    ) -> None:
        api.configuration.connection_pool_maxsize = connections
        self._api = client.ApiClient(api.configuration)
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)

    def send(self, request: Request) -> dict[str, Any]:
        """The answer's JSON object; KubeError for everything else."""
        settings = self._api.configuration
        url = settings.host.rstrip("/") + request.path
        if request.query:
            url += "?" + urlencode(request.query)
        headers = {"Accept": "application/json", "User-Agent": "trimtab"}
        token = settings.auth_settings().get("BearerToken")  # refreshes a mounted token that has been rotated
        if token and token.get("value"):
            headers["Authorization"] = token["value"]
        data = None
        if request.body is not None:
            headers["Content-Type"] = request.content_type
            data = json.dumps(request.body, separators=(",", ":")).encode()
        try:
            answer = self._api.rest_client.pool_manager.request(
                request.method, url, body=data, headers=headers, timeout=self._timeout, retries=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"{request.doing}: the API server gave no answer ({type(error).__name__}).") from error
        if not 200 <= answer.status < 300:
            raise error_from(answer.status, answer.headers, answer.data, request.doing)
        return _object(answer.data, request.doing)

    def close(self) -> None:
        """Closes the connections."""
        self._api.rest_client.pool_manager.clear()


def _object(data: bytes, doing: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise Unavailable(f"{doing}: the API server answered with something that is not JSON.") from error
    if not isinstance(document, dict):
        raise Unavailable(f"{doing}: the API server answered with something that is not an object.")
    return document


def api_client(kubeconfig: Path | None = None, *, context: str | None = None) -> client.ApiClient:
    """The official client: from the pod's service account when there is one and no file is named, else a kubeconfig.

    Raises KubeError when there is neither.
    """
    settings = client.Configuration()
    loader: Any = config  # its functions carry no types
    if kubeconfig is None and context is None:
        try:
            loader.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            pass
        else:
            return client.ApiClient(settings)
    try:
        with _loading:
            loader.load_kube_config(
                config_file=str(kubeconfig) if kubeconfig else None, context=context, client_configuration=settings
            )
    except (config.ConfigException, OSError) as error:
        raise KubeError(f"There is no usable cluster configuration: {error}") from error
    return client.ApiClient(settings)

"""The Gateway API's resources for the tests: from its Go module, which is pinned by its hash and not copied here."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from tests.cluster.definitions import established
from tests.cluster.go_modules import fetched
from tests.cluster.handle import CommandError, Handle
from tests.cluster.layout import default_layout

MODULE = "sigs.k8s.io/gateway-api"
VERSION = "v1.4.1"
# As in a go.sum: of all files of the module (Apache-2.0).
SUM = "h1:NPxFutNkKNa8UfLd2CMlEuhIPMQgDQ6DXNKG9sHbJU8="
_STANDARD = "config/crd/standard"
_GROUP = "gateway.networking.k8s.io"
HTTP_ROUTES = "httproutes"
# All that an implementation of the standard channel watches.
STANDARD = ("backendtlspolicies", "gatewayclasses", "gateways", "grpcroutes", HTTP_ROUTES, "referencegrants")


def definitions(names: Iterable[str] = (HTTP_ROUTES,)) -> list[str]:
    """Definitions as published, by the plural names of what they define."""
    folder = fetched(default_layout(), MODULE, VERSION, SUM) / _STANDARD
    return [(folder / f"{_GROUP}_{name}.yaml").read_text(encoding="utf-8") for name in names]


def install(cluster: Handle, names: Iterable[str] = (HTTP_ROUTES,)) -> None:
    """These on the API server, unless they are there already: what a cluster has is not ours to change."""
    for text in definitions(names):
        name = yaml.safe_load(text)["metadata"]["name"]
        try:
            cluster.kubectl("get", "crd", name)
        except CommandError:
            cluster.kubectl("apply", "--server-side", "--filename=-", stdin=text)
        established(cluster.kubectl, f"crd/{name}")

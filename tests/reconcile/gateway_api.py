"""The Gateway API's resources for the tests: from its Go module, which is pinned by its hash and not copied here."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import yaml

from tests.cluster.binaries import find_go
from tests.cluster.handle import CommandError, Handle
from tests.cluster.layout import default_layout
from tests.cluster.processes import Commands

MODULE = "sigs.k8s.io/gateway-api"
VERSION = "v1.4.1"
# As in a go.sum: of all files of the module (Apache-2.0).
SUM = "h1:NPxFutNkKNa8UfLd2CMlEuhIPMQgDQ6DXNKG9sHbJU8="
_HTTP_ROUTES = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"


def http_routes_crd() -> str:
    """The definition of HTTPRoute, as published. Go checks what it downloads against its checksum database as well."""
    layout = default_layout()
    go = find_go(layout, Commands(layout))
    modules = str(layout.cache / "go" / f"gateway-api-{VERSION}")
    settings = {"GOTOOLCHAIN": "local", "GO111MODULE": "on", "GOFLAGS": "-modcacherw", "GOMODCACHE": modules}
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            [go, "mod", "download", "-json", f"{MODULE}@{VERSION}"],
            cwd=nowhere, env={**os.environ, **settings}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    found = json.loads(done.stdout or "{}")
    if done.returncode != 0 or found.get("Sum") != SUM:
        raise RuntimeError(f"{MODULE}@{VERSION} could not be fetched as pinned: {done.stderr or found}")
    return (Path(found["Dir"]) / _HTTP_ROUTES).read_text(encoding="utf-8")


def install(cluster: Handle) -> None:
    """HTTPRoute on the API server, unless it is there already: one that a cluster has is not ours to change."""
    text = http_routes_crd()
    name = yaml.safe_load(text)["metadata"]["name"]
    try:
        cluster.kubectl("get", "crd", name)
    except CommandError:
        cluster.kubectl("apply", "--server-side", "--filename=-", stdin=text)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", f"crd/{name}")

"""The stage of the demo: cluster, images, operator, service, load."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

import yaml

from tests.cluster.fixtures import REPOSITORY
from tests.cluster.handle import Handle, from_document
from tests.e2e import operator
from tests.e2e.access import Access
from tests.e2e.loadgen import LoadGenerator
from tests.e2e.manifests import Service, emulated_service, vllm_service

NAMESPACE = "demo"
NAME = "chat"
ENGINE_IMAGES = {"vllm": "engine-demo", "emulator": "testkit"}


class StageError(Exception):
    """The stage could not be set; the text says which part."""


def _cluster_program(*words: str, quiet: bool) -> str:
    command = [sys.executable, "-m", "tests.cluster", *words]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE if quiet else None, text=True, check=False)
    if done.returncode != 0:
        raise StageError(f"`python -m tests.cluster {' '.join(words)}` failed; what it said stands above")
    return done.stdout or ""


def cluster() -> Handle:
    """The cluster that CLUSTER names, brought up where it is not."""
    try:
        found = _cluster_program("status", "--json", quiet=True)
    except StageError:
        _cluster_program("up", quiet=False)
        found = _cluster_program("status", "--json", quiet=True)
    return from_document(json.loads(found))


def images(engine: str) -> dict[str, str]:
    """References of the operator's, the engine's and the load generator's image, built and loaded where needed."""
    names = dict.fromkeys(("operator", ENGINE_IMAGES[engine], "testkit"))
    return dict(json.loads(_cluster_program("images", "--json", *names, quiet=True)))


def service(engine: str, image: str) -> Service:
    """The service with its bad configuration."""
    return vllm_service(NAME, image) if engine == "vllm" else emulated_service(NAME, image)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the acts play on."""

    access: Access
    service: Service
    load: LoadGenerator
    testkit: str

    def clear(self) -> None:
        """Removes what the demo made in the cluster, but the operator."""
        self.access.handle.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def set_stage(engine: str, access: Access, references: dict[str, str]) -> Stage:
    """An empty namespace, an earlier demo's being deleted first, and the operator, which may work in it alone."""
    handle = access.handle
    handle.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s")
    handle.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
    values = {"watch": {"namespaces": [NAMESPACE]}}
    operator.install(access, references["operator"], handle.prometheus_in_cluster, values)
    return Stage(
        access=access,
        service=service(engine, references[ENGINE_IMAGES[engine]]),
        load=LoadGenerator(access=access, namespace=NAMESPACE),
        testkit=references["testkit"],
    )

"""The real API server for the tests of this directory, with the resources' definitions applied."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.cluster.definitions import established
from tests.cluster.fixtures import REPOSITORY, audit_log, cluster
from tests.cluster.handle import Handle
from tests.kube.fixtures import kube, namespace
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.kube.client import Kube
from trimtab.kube.kinds import LLM_DEPLOYMENTS

__all__ = ["audit_log", "cluster", "kube", "make", "namespace", "resources"]

Make = Callable[..., Awaitable[LLMDeployment]]

# No node is for it: its pods stay pending, and what is written is all that these tests look at.
OWNED: dict[str, Any] = {
    "model": {"name": "m75", "source": "/models/m75"},
    "engine": {
        "name": "vllm",
        "version": "0.32.0",
        "image": "trimtab.local/not-there:0",
        "imagePullPolicy": "Never",
        "config": {"maxNumSeqs": 2},
    },
    "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
    "pod": {"nodeSelector": {"example.com/nowhere": "true"}},
    "replicas": 2,
    "tuning": {"mode": "Observe"},
}
ADOPTED: dict[str, Any] = {
    "model": {"name": "m75"},
    "engine": {"name": "vllm", "version": "0.32.0"},
    "targetRef": {"name": "web", "container": "vllm"},
    "tuning": {"mode": "Observe"},
}


@pytest.fixture(scope="session", autouse=True)
def resources(cluster: Handle) -> Handle:
    """The cluster, with the CRDs of this checkout."""
    definitions = f"--filename={REPOSITORY / 'crds'}"
    cluster.kubectl("apply", "--server-side", "--force-conflicts", definitions)
    established(cluster.kubectl, definitions)
    return cluster


@pytest.fixture
def make(kube: Kube, namespace: str) -> Make:
    """`await make(OWNED, replicas=1)` creates the resource `chat` and gives it as the API server has it."""

    async def create(base: dict[str, Any], **spec: Any) -> LLMDeployment:
        body = {"metadata": {"name": "chat", "namespace": namespace}, "spec": {**copy.deepcopy(base), **spec}}
        return LLMDeployment.model_validate(await kube.create(LLM_DEPLOYMENTS, body))

    return create

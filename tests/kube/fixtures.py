"""A namespace and a client on the real API server, for the tests of several rooms."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.cluster.handle import Handle
from trimtab.kube.client import Kube


@pytest.fixture
def namespace(cluster: Handle) -> Iterator[str]:
    """A namespace for one test; nobody waits for its end."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def kube(cluster: Handle) -> AsyncIterator[Kube]:
    """Our client as the administrator, always allowed to write."""
    async with Kube.connect(cluster.kubeconfig, guard=lambda: True) as client:
        yield client

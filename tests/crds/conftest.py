"""Fixtures of the running cluster; one namespace for all tests of a module, because ending one takes seconds."""

import uuid
from collections.abc import Iterator

import pytest

from tests.cluster.fixtures import cluster
from tests.cluster.handle import Handle

__all__ = ["cluster", "namespace"]


@pytest.fixture(scope="module")
def namespace(cluster: Handle) -> Iterator[str]:
    name = f"crds-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--timeout=180s")

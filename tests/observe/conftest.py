"""A real Prometheus for the tests of this directory."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.observe.running_prometheus import Exporter, RealPrometheus
from trimtab.observe.prometheus import Prometheus


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """One Prometheus for all tests; each keeps to a namespace of its own."""
    server = RealPrometheus(tmp_path_factory.mktemp("prometheus"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def place() -> str:
    """A namespace that no other test uses."""
    return f"ns-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    """An exporter whose page the test writes."""
    with Exporter() as running:
        yield running


@pytest.fixture
async def client(prometheus: RealPrometheus) -> AsyncIterator[Prometheus]:
    """Our client of the real Prometheus."""
    async with Prometheus(prometheus.url) as ours:
        yield ours

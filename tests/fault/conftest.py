"""A control plane and a Prometheus of these tests' own; see `tests.fault.bed` for what is real and what is played."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault import control_plane, prometheus_server
from tests.fault.background import Background
from tests.fault.control_plane import ControlPlane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with controllers and without nodes."""
    with control_plane.running(tmp_path_factory.mktemp("plane")) as found:
        yield found


@pytest.fixture(scope="session")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus that is written into."""
    directory: Path = tmp_path_factory.mktemp("prometheus")
    with prometheus_server.running(directory) as url:
        yield url


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    """Where proxies run."""
    found = Background()
    yield found
    found.close()

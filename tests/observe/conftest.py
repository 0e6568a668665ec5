"""A real Prometheus for the tests of this directory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from tests.observe.running_prometheus import Exporter, RealPrometheus
from trimtab.observe.prometheus import Prometheus

_SPARES = 32  # one for each test of this directory that wants one


@dataclass
class Running:
    """One Prometheus for all tests, and exporters that it scrapes from its start on: a new target takes it seconds."""

    prometheus: RealPrometheus
    spares: list[tuple[str, Exporter]] = field(default_factory=list)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Prometheus, and exporters scraped as pod "p" of a namespace each."""
    with contextlib.ExitStack() as stack:
        both = Running(RealPrometheus(tmp_path_factory.mktemp("prometheus")))
        for number in range(_SPARES):
            exporter = stack.enter_context(Exporter())
            both.spares.append((f"ns-{number}", exporter))
            both.prometheus.scrape(exporter.address, namespace=f"ns-{number}", pod="p")
        both.prometheus.start()
        stack.callback(both.prometheus.stop)
        yield both


@pytest.fixture
def prometheus(running: Running) -> RealPrometheus:
    """The Prometheus that all tests share."""
    return running.prometheus


@pytest.fixture
def spare(running: Running) -> tuple[str, Exporter]:
    """A namespace that no other test uses, and the exporter that is scraped as its pod "p"."""
    return running.spares.pop()


@pytest.fixture
def place(spare: tuple[str, Exporter]) -> str:
    """The namespace."""
    return spare[0]


@pytest.fixture
def exporter(spare: tuple[str, Exporter]) -> Exporter:
    """The exporter; the test writes its page."""
    return spare[1]


@pytest.fixture
async def client(prometheus: RealPrometheus) -> AsyncIterator[Prometheus]:
    """Our client of the real Prometheus."""
    async with Prometheus(prometheus.url) as ours:
        yield ours

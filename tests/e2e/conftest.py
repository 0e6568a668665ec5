"""One operator for all end-to-end tests, pointed at a Prometheus that can be told to misbehave.

Each file may run in a process of its own (`-n 3 --dist loadfile`), except those marked `alone`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.cluster.fixtures import audit_log, cluster, helm, image, kubeconfig, kubectl
from tests.cluster.handle import Handle
from tests.e2e import operator as operators
from tests.e2e import prometheus as proxies
from tests.e2e.access import Access
from tests.e2e.loadgen import Load, LoadGenerator
from tests.e2e.manifests import Service, emulated_service
from tests.e2e.operator import Operator
from tests.e2e.pods import PodWatch
from tests.e2e.prometheus import PrometheusProxy
from tests.e2e.scenario import Scenario, selector
from tests.e2e.sharing import shared

__all__ = ["audit_log", "cluster", "helm", "image", "kubeconfig", "kubectl"]

# Few clients with short requests keep the emulator and the load generator well below two cores.
LOAD = Load(clients=16, prompt_tokens="64", output_tokens="32")
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)[:6]
_PURPOSES = (
    *("prometheus", "acts", "away", "crashes", "input", "deleted", "adopted", "blue-green", "in-place"),
    *("in-place-whole", "vllm", "live", "gateway"),
)


@pytest.fixture(scope="session")
def access(cluster: Handle) -> Access:
    """A connection to the API server."""
    return Access(cluster)


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run have."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def spaces(access: Access) -> Iterator[Callable[[str], str]]:
    """`spaces("acts")` makes a namespace; all of them are deleted at the end."""
    made: list[str] = []

    def make(purpose: str) -> str:
        made.append(_namespace(access, purpose))
        return made[-1]

    yield make
    for name in made:
        _remove(access, name)


def _namespace(access: Access, purpose: str) -> str:
    assert purpose in _PURPOSES, f"{purpose!r} is not in _PURPOSES"
    name = f"e2e-{purpose}-{_RUN}"
    access.handle.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    return name


def _remove(access: Access, namespace: str) -> None:
    access.handle.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def prometheus(access: Access, image: Callable[[str], str], together: Path) -> Iterator[PrometheusProxy]:
    """What the operator takes for Prometheus; it passes queries on until a test changes that."""

    def make() -> PrometheusProxy:
        namespace = _namespace(access, "prometheus")
        return proxies.deploy(access, namespace, image("testkit"), access.handle.prometheus_in_cluster)

    def end() -> None:
        _remove(access, f"e2e-prometheus-{_RUN}")

    with shared(together, "prometheus", make=make, end=end) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def operator(
    access: Access, image: Callable[[str], str], prometheus: PrometheusProxy, together: Path
) -> Iterator[Operator]:
    """The operator from its chart; with TRIMTAB_E2E_OPERATOR=process a process of this machine, for working on it."""
    if os.environ.get("TRIMTAB_E2E_OPERATOR") == "process":
        log = Path(os.environ.get("TRIMTAB_E2E_LOG") or together / "operator.log")
        # It keeps to its own, because an installed operator may be at work beside it.
        own = ",".join(f"e2e-{purpose}-{_RUN}" for purpose in _PURPOSES)
        with operators.on_this_machine(access, prometheus.url, log, {"TRIMTAB_NAMESPACES": own}) as running:
            yield running
        return

    def make() -> Operator:
        return operators.install(access, image("operator"), prometheus.url)

    def end() -> None:
        operators.uninstall(access)

    with shared(together, "operator", make=make, end=end) as installed:
        yield installed


@pytest.fixture(scope="module")
def stage(
    access: Access, image: Callable[[str], str], operator: Operator, spaces: Callable[[str], str]
) -> Iterator[Callable[..., Scenario]]:
    """`stage("chat", purpose="acts")` gives a scenario with an emulated service in a namespace of its own, not yet
    created; `service` replaces the service, `pods` the selector of the pods to watch.
    """
    with ExitStack() as open_watches:

        def make(purpose: str, service: Service | None = None, pods: str = "") -> Scenario:
            namespace = spaces(purpose)
            wanted = service or emulated_service("chat", image("testkit"))
            watched = open_watches.enter_context(PodWatch(access, namespace, pods or selector(wanted.name)))
            return Scenario(access, namespace, wanted, watched, LoadGenerator(access=access, namespace=namespace))

        yield make


@pytest.fixture(scope="session")
def testkit(image: Callable[[str], str]) -> str:
    """The image of the emulator and the load generator."""
    return image("testkit")

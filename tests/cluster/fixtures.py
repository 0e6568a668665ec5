"""Fixtures for tests against the running cluster. A conftest.py uses them by importing them by name."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.audit import AuditLog
from tests.cluster.handle import Handle, from_document

REPOSITORY = Path(__file__).resolve().parents[2]


def _cluster_command(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"`python -m tests.cluster {' '.join(words)}` failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


@pytest.fixture(scope="session")
def cluster() -> Handle:
    """The cluster; brought up first where it is not, and left up for the next run."""
    try:
        found = json.loads(_cluster_command("status", "--json"))
    except RuntimeError:
        _cluster_command("up")
        found = json.loads(_cluster_command("status", "--json"))
    return from_document(found)


@pytest.fixture(scope="session")
def kubeconfig(cluster: Handle) -> Path:
    """The administrator's kubeconfig."""
    return cluster.kubeconfig


@pytest.fixture(scope="session")
def kubectl(cluster: Handle) -> Callable[..., str]:
    """`kubectl("get", "pods", namespace=...)` gives its output and raises when it fails."""
    return cluster.kubectl


@pytest.fixture(scope="session")
def helm(cluster: Handle) -> Callable[..., str]:
    """`helm("upgrade", "--install", ...)` gives its output and raises when it fails."""
    return cluster.helm


@pytest.fixture(scope="session")
def image(cluster: Handle) -> Callable[[str], str]:
    """`image("operator")` builds and loads that image where needed and gives its reference for a pod."""
    known: dict[str, str] = {}

    def bring(name: str) -> str:
        if name not in known:
            known[name] = json.loads(_cluster_command("images", "--json", name))[name]
        return known[name]

    return bring


@pytest.fixture
def namespace(cluster: Handle) -> Iterator[str]:
    """A namespace of its own for one test, deleted with all that is in it afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--timeout=180s")


@pytest.fixture
def audit_log(cluster: Handle) -> AuditLog:
    """The API server's audit log, to count writes by user since a moment."""
    assert cluster.audit_log is not None, "this cluster's audit log is out of reach; the local cluster's is not"
    return AuditLog(cluster.audit_log)

"""The real API server for the tests of this directory."""

from tests.cluster.fixtures import cluster
from tests.kube.fixtures import kube, namespace

__all__ = ["cluster", "kube", "namespace"]

"""Fixtures of the running cluster."""

from tests.cluster.fixtures import cluster, helm, kubectl, namespace

__all__ = ["cluster", "helm", "kubectl", "namespace"]

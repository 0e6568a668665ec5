"""Fixtures for the tests in this directory."""

from __future__ import annotations

from tests.cluster.fixtures import audit_log, cluster, helm, image, kubeconfig, kubectl, namespace

__all__ = ["audit_log", "cluster", "helm", "image", "kubeconfig", "kubectl", "namespace"]

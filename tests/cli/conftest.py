"""The real API server and one resource in a namespace of its own, for the command line."""

from __future__ import annotations

from tests.reconcile.conftest import cluster, namespace, resources

__all__ = ["cluster", "namespace", "resources"]

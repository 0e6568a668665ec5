"""Fixtures for the tests in this directory."""

from __future__ import annotations

from tests.cluster.fixtures import cluster, image, namespace
from tests.vllm.fixtures import vllm_server

__all__ = ["cluster", "image", "namespace", "vllm_server"]

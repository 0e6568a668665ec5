"""Which cluster to use: CLUSTER=local (a cluster on this machine without Docker, the default), kind, or current."""

from __future__ import annotations

import os
from typing import Protocol

from tests.cluster import elsewhere, images, local, prometheus, teardown
from tests.cluster.handle import Handle
from tests.cluster.layout import Layout
from tests.cluster.processes import Commands
from tests.cluster.steps import Progress, StepError


class Target(Protocol):
    """One way to have a cluster."""

    def up(self, names: tuple[str, ...], progress: Progress) -> None:
        """Brings it up with these images, or completes what is there."""

    def down(self, progress: Progress) -> None:
        """Removes what `up` made."""

    def bring(self, names: tuple[str, ...], progress: Progress) -> dict[str, str]:
        """Builds images and loads them where the cluster is up; their references by name."""

    def state(self) -> dict[str, bool]:
        """What of it runs, by name. It is up when all of that does."""

    def handle(self) -> Handle:
        """How to use it."""


class Local:
    """The cluster without Docker."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def up(self, names: tuple[str, ...], progress: Progress) -> None:
        """Brings it up, with progress for each step."""
        local.up(self._layout, names, progress)

    def down(self, progress: Progress) -> None:
        """Removes everything but the cache."""
        teardown.tear_down(self._layout, progress)

    def bring(self, names: tuple[str, ...], progress: Progress) -> dict[str, str]:
        """Builds images, and loads them when the cluster is up."""
        commands = Commands(self._layout, logs=self._layout.cache / "logs")
        return images.bring(self._layout, commands, names, progress, loading=local.is_up(self._layout))

    def state(self) -> dict[str, bool]:
        """The daemons."""
        return {**local.running(self._layout), "set-up complete": self._layout.ready.exists()}

    def handle(self) -> Handle:
        """The administrator's access."""
        return Handle(
            kubeconfig=self._layout.kubeconfig,
            kubectl_program=self._layout.bin / "kubectl",
            helm_program=self._layout.bin / "helm",
            prometheus_in_cluster=prometheus.URL_IN_CLUSTER,
            prometheus_here=prometheus.URL_ON_THIS_MACHINE,
            audit_log=self._layout.audit_log,
        )


def chosen(layout: Layout, name: str | None = None) -> Target:
    """The target that CLUSTER names."""
    wanted = name or os.environ.get("CLUSTER") or "local"
    if wanted == "local":
        return Local(layout)
    if wanted == "kind":
        return elsewhere.Kind(layout)
    if wanted == "current":
        return elsewhere.Current(layout)
    raise StepError(f"CLUSTER={wanted} is unknown; it is local, kind or current")

"""The cluster's agent (kubernetes/agent): scrape targets for Prometheus, and names of Services for pods."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import roles
from tests.cluster.binaries import apply
from tests.cluster.layout import NODE_ADDRESS, Layout
from tests.cluster.processes import Daemon, start, wait_for

USER = "trimtab-cluster-agent"
DNS_PORT = 53


def targets_file(layout: Layout) -> Path:
    """Where the agent writes what Prometheus scrapes."""
    return layout.cluster / "targets" / "pods.json"


def daemon(layout: Layout) -> Daemon:
    """The agent, under a role that may only watch."""
    return Daemon(
        "agent",
        (
            str(layout.bin / "agent"),
            f"-kubeconfig={layout.pki / 'agent.kubeconfig'}",
            f"-targets={targets_file(layout)}",
            f"-dns={NODE_ADDRESS}:{DNS_PORT}",
        ),
    )


def rules() -> list[dict[str, object]]:
    """What the agent may read."""
    watch = ["list", "watch"]
    return [
        {"apiGroups": [""], "resources": ["pods", "services"], "verbs": watch},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watch},
    ]


def start_agent(layout: Layout) -> None:
    """Starts the agent and waits for its first list of targets."""
    path = targets_file(layout)
    path.parent.mkdir(parents=True, exist_ok=True)
    apply(layout, roles.manifests(USER, rules()))
    start(layout, daemon(layout))
    wait_for(layout, "agent", "it has written targets", path.exists, seconds=60)

"""Where the cluster keeps things, and the addresses it uses.

Everything that belongs to the running cluster lies under one directory and is gone after `down`. What took long to
make and can be used again (binaries, images) lies under the cache directory and stays.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

NODE_NAME = "trimtab-node"
BRIDGE = "trimtab0"
# The node's address is the bridge's own: the API server, the kubelet and Prometheus are reached there by pods and by
# this machine, and nothing listens on an address that other machines can reach.
NODE_ADDRESS = "10.201.0.1"
BRIDGE_MAC = "0a:58:0a:c9:00:01"
POD_NETWORK = "10.201.0.0/24"
SERVICE_NETWORK = "10.202.0.0/24"
API_SERVICE_ADDRESS = "10.202.0.1"
PROMETHEUS_SERVICE_ADDRESS = "10.202.0.90"
PROMETHEUS_NODE_PORT = 30090
API_PORT = 6443
PROMETHEUS_PORT = 9090
API_URL = f"https://{NODE_ADDRESS}:{API_PORT}"

# Set in the environment of every process that `up` starts, so that each can be found again, whoever its parent is.
MEMBER_VARIABLE = "TRIMTAB_CLUSTER_MEMBER"

_LONGEST_SOCKET_PATH = 107
_LONGEST_SOCKET_NAME = "/containerd/containerd.sock.ttrpc"


class LayoutError(Exception):
    """A directory that cannot be used."""


@dataclass(frozen=True)
class Layout:
    """The directories of one cluster: its own (removed by `down`), the cache (kept) and the checkout."""

    cluster: Path
    cache: Path
    repository: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.cluster / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.cluster / "pki"

    @property
    def config(self) -> Path:
        return self.cluster / "config"

    @property
    def logs(self) -> Path:
        return self.cluster / "logs"

    @property
    def pids(self) -> Path:
        return self.cluster / "pids"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.log"

    @property
    def ready(self) -> Path:
        """Written as the last act of `up`; without it the state was left by an interrupted one."""
        return self.cluster / "ready"

    @property
    def bin(self) -> Path:
        """Links to the programs of the running cluster, kubectl and helm among them."""
        return self.cluster / "bin"

    @property
    def containerd_socket(self) -> Path:
        return self.cluster / "containerd" / "containerd.sock"

    @property
    def containerd_root(self) -> Path:
        """Image content and snapshots. In the cache, so that a large image is imported once."""
        return self.cache / "containerd"

    @property
    def member(self) -> str:
        """The value of MEMBER_VARIABLE in this cluster's processes."""
        return str(self.cluster)

    @property
    def tag(self) -> str:
        """The name of what is kept by name outside of the directory: the pods' cgroup, the CNI network."""
        return "trimtab-" + hashlib.sha256(str(self.cluster).encode()).hexdigest()[:8]


def default_layout() -> Layout:
    """The layout that the environment asks for: TRIMTAB_CLUSTER_DIR and TRIMTAB_CACHE, or their defaults."""
    cluster = Path(os.environ.get("TRIMTAB_CLUSTER_DIR") or "/var/lib/trimtab-cluster").absolute()
    cache = Path(os.environ.get("TRIMTAB_CACHE") or Path.home() / ".cache" / "trimtab").absolute()
    if len(str(cluster)) + len(_LONGEST_SOCKET_NAME) > _LONGEST_SOCKET_PATH:
        raise LayoutError(
            f"TRIMTAB_CLUSTER_DIR is too long for a unix socket's path ({_LONGEST_SOCKET_PATH} characters): {cluster}"
        )
    if len(cluster.parts) < 3:
        raise LayoutError(f"TRIMTAB_CLUSTER_DIR is {cluster}: this directory is removed by `down`; name a deeper one.")
    return Layout(cluster=cluster, cache=cache, repository=Path(__file__).resolve().parents[2])

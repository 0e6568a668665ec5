"""The node: kubelet and kube-proxy, and the GPUs it claims to have."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.cluster import cgroups
from tests.cluster.binaries import kubectl
from tests.cluster.layout import NODE_ADDRESS, NODE_NAME, POD_NETWORK, Layout
from tests.cluster.processes import Daemon, is_running, output, start, wait_for, write_if_changed
from tests.cluster.steps import StepError

GPU_RESOURCE = "nvidia.com/gpu"


def kubelet_configuration(layout: Layout) -> dict[str, object]:
    """KubeletConfiguration: everything it writes stays under the cluster's directory, and a full disk evicts nobody."""
    pki = layout.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.tag}",
        "failSwapOn": False,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(layout.config / "resolv.conf"),
        "podLogsDir": str(layout.cluster / "pods"),
        "volumePluginDir": str(layout.cluster / "kubelet" / "volume-plugins"),
        "maxPods": 110,
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "syncFrequency": "30s",
        "shutdownGracePeriod": "0s",
        "enableDebuggingHandlers": True,
    }


def kubelet(layout: Layout) -> Daemon:
    """The kubelet, under its node's own certificate."""
    return Daemon(
        "kubelet",
        (
            str(layout.bin / "kubelet"),
            f"--config={layout.config / 'kubelet.yaml'}",
            f"--kubeconfig={layout.pki / 'kubelet.kubeconfig'}",
            f"--root-dir={layout.cluster / 'kubelet'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
            # For cAdvisor, which asks containerd whom a cgroup belongs to. Deprecated, but there is no other way.
            f"--containerd={layout.containerd_socket}",
        ),
        ahead=False,
    )


def proxy_configuration(layout: Layout) -> dict[str, object]:
    """KubeProxyConfiguration: iptables mode, and a NodePort answers on the loopback address alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "bindAddress": NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(layout.pki / "proxy.kubeconfig")},
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": POD_NETWORK,
        "nodePortAddresses": ["127.0.0.0/8"],
        "iptables": {"localhostNodePorts": True, "minSyncPeriod": "0s", "syncPeriod": "30s"},
        # The machine's own connection tracking is left as it is.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def proxy(layout: Layout) -> Daemon:
    """kube-proxy."""
    return Daemon("kube-proxy", (str(layout.bin / "kube-proxy"), f"--config={layout.config / 'proxy.yaml'}"))


def start_kubelet(layout: Layout) -> None:
    """Starts the kubelet and waits until its node is registered."""
    cgroups.create(layout)
    write_if_changed(layout.config / "resolv.conf", "")
    text = yaml.safe_dump(kubelet_configuration(layout), sort_keys=False)
    start(layout, kubelet(layout), again=write_if_changed(layout.config / "kubelet.yaml", text))
    wait_for(layout, "kubelet", "its node is registered", lambda: _node(layout) is not None, seconds=90)


def start_proxy(layout: Layout) -> None:
    """Starts kube-proxy and waits until it has written its rules for the API server's own Service."""
    text = yaml.safe_dump(proxy_configuration(layout), sort_keys=False)
    start(layout, proxy(layout), again=write_if_changed(layout.config / "proxy.yaml", text))
    wait_for(layout, "kube-proxy", "its rules are written", _rules_are_written, seconds=90)


def _rules_are_written() -> bool:
    return "default/kubernetes:https" in output(["iptables-save", "-t", "nat"])


def _node(layout: Layout) -> dict[str, object] | None:
    try:
        found = json.loads(kubectl(layout, "get", "node", NODE_NAME, "--output=json", "--request-timeout=5s"))
    except StepError:
        return None
    return found if isinstance(found, dict) else None


def is_ready(node: dict[str, object] | None) -> bool:
    """Whether a Node object says that it is ready."""
    status = node.get("status") if node else None
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)


def wait_until_ready(layout: Layout) -> None:
    """Waits until the node can run pods."""
    wait_for(layout, "kubelet", "the node is ready", lambda: is_ready(_node(layout)), seconds=120)


def gpu_patch(count: int) -> str:
    """The patch of a node's status that makes the scheduler count GPUs on it, as a device plugin would."""
    quantity = {GPU_RESOURCE: str(count)}
    return json.dumps({"status": {"capacity": quantity, "allocatable": quantity}})


def advertise_gpus(layout: Layout, count: int) -> None:
    """Advertises GPUs on the node. Survives the kubelet's own updates, since it only writes what it measures."""
    kubectl(layout, "patch", "node", NODE_NAME, "--subresource=status", "--type=merge", f"--patch={gpu_patch(count)}")


def device_plugin_files(layout: Layout, directory: Path = Path("/var/lib/kubelet/device-plugins")) -> list[Path]:
    """The kubelet's socket and notes for device plugins, in a place fixed in its source, unless a kubelet that is not
    ours uses them: no other one can have run while ours did.
    """
    if not layout.cluster.is_dir() or is_running(layout, "kubelet"):
        return []
    socket = directory / "kubelet.sock"
    if str(socket) in Path("/proc/net/unix").read_text(errors="replace"):
        return []
    return [path for path in (socket, directory / "kubelet_internal_checkpoint") if path.exists()]


def container_log_links(layout: Layout, directory: Path = Path("/var/log/containers")) -> list[Path]:
    """Links that the kubelet makes to its pods' logs in a place fixed in its source."""
    if not directory.is_dir():
        return []
    ours = str(layout.cluster) + "/"
    return [path for path in directory.iterdir() if path.is_symlink() and str(path.readlink()).startswith(ours)]

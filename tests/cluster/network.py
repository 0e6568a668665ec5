"""The bridge, the CNI configuration and the kernel settings; and how each is taken back."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from tests.cluster.layout import BRIDGE, BRIDGE_MAC, NODE_ADDRESS, POD_NETWORK, Layout
from tests.cluster.processes import output, write_if_changed
from tests.cluster.steps import StepError

CNI_PLUGINS = ("/usr/lib/cni", "/opt/cni/bin")
_PREFIX = POD_NETWORK.rpartition("/")[2]

# Kernel settings that the kubelet, kube-proxy, the bridge plugin or we change; put back by `down`.
SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
)
_PROC_SYS = Path("/proc/sys")


def cni_plugin_directory() -> str:
    """Where the CNI plugins are: Debian's package, or the place that everyone else uses."""
    for directory in CNI_PLUGINS:
        if (Path(directory) / "bridge").exists():
            return directory
    raise StepError("no CNI plugins found (package containernetworking-plugins): run `make setup`")


def cni_configuration(layout: Layout) -> str:
    """Pods get an address on the bridge and reach each other, Services and this machine, and nothing beyond it.

    No masquerading: nothing in the cluster needs the world outside, and without it no pod can depend on it unseen.
    """
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_NETWORK, "gateway": NODE_ADDRESS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(layout.cluster / "cni" / "addresses"),
        },
    }
    return json.dumps({"cniVersion": "0.4.0", "name": layout.tag, "plugins": [bridge]}, indent=2)


def read_settings() -> dict[str, str]:
    """The present values of the kernel settings that this kernel has."""
    found: dict[str, str] = {}
    for name in SETTINGS:
        try:
            found[name] = (_PROC_SYS / name).read_text().strip()
        except OSError:
            continue
    return found


def restore_settings(before: dict[str, str]) -> None:
    """Puts back each setting that differs from `before`."""
    for name, value in before.items():
        path = _PROC_SYS / name
        try:
            if name in SETTINGS and path.read_text().strip() != value:
                path.write_text(value)
        except OSError:
            continue


def _load_modules() -> None:
    for module in ("overlay", "br_netfilter", "xt_comment", "xt_conntrack", "xt_MASQUERADE", "veth"):
        # Where the kernel has it built in, or there is no modprobe, nothing needs to be loaded.
        with contextlib.suppress(StepError, FileNotFoundError):
            output(["modprobe", "-q", module])


def bridge_exists() -> bool:
    """Whether our bridge is there."""
    return Path("/sys/class/net", BRIDGE).exists()


def set_up(layout: Layout) -> None:
    """Makes the bridge with the node's address on it, the CNI configuration, and sets what the kernel must allow."""
    _load_modules()
    if not bridge_exists():
        output(["ip", "link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge"])
    output(["ip", "address", "replace", f"{NODE_ADDRESS}/{_PREFIX}", "dev", BRIDGE])
    output(["ip", "link", "set", BRIDGE, "up"])
    output(["ip", "link", "set", "lo", "up"])
    (_PROC_SYS / "net/ipv4/ip_forward").write_text("1")
    if not (_PROC_SYS / "net/bridge").exists():
        raise StepError("this kernel has no br_netfilter: a Service could not reach a pod on the same bridge")
    (_PROC_SYS / "net/bridge/bridge-nf-call-iptables").write_text("1")
    write_if_changed(layout.config / "cni" / "10-trimtab.conflist", cni_configuration(layout))


def bridge_ports() -> list[str]:
    """The interfaces on our bridge: the machine's ends of the pods' cables."""
    ports = Path("/sys/class/net", BRIDGE, "brif")
    return sorted(path.name for path in ports.iterdir()) if ports.is_dir() else []


def remove_interfaces() -> None:
    """Removes the bridge and what hangs on it."""
    for name in [*bridge_ports(), *([BRIDGE] if bridge_exists() else [])]:
        # A cable's end goes by itself when the kernel takes its pod's namespace away, maybe just now.
        with contextlib.suppress(StepError):
            output(["ip", "link", "delete", name])

"""What a cluster leaves on a machine, found from the machine itself and not from notes about it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import cgroups, containerd, firewall, network, node
from tests.cluster.layout import BRIDGE, Layout
from tests.cluster.processes import members, parent_of

# Places fixed in the source of the kubelet, containerd or the plugins. What is not there before `up` is not there
# after `down`; what is there before keeps everything that is not ours.
OUTSIDE = (
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/var/lib/cni",
    "/run/containerd",
    "/run/netns",
    "/run/xtables.lock",
    "/opt/cni",
    "/opt/containerd",
    "/etc/cni",
    "/usr/libexec/kubernetes",
    "/var/lib/containerd",
    "/var/lib/containers",
)
_CNI_RESULTS = Path("/var/lib/cni/results")


def cni_results(layout: Layout) -> list[Path]:
    """The CNI library's notes about our pods' interfaces: on our network, and their loopback ones, which containerd
    names alike for every network. Both carry the sandbox's id.
    """
    if not _CNI_RESULTS.is_dir():
        return []
    ours = sorted(_CNI_RESULTS.glob(f"{layout.tag}-*"))
    sandboxes = [path.name.removeprefix(f"{layout.tag}-").rpartition("-")[0] for path in ours]
    loopbacks = [_CNI_RESULTS / f"cni-loopback-{sandbox}-lo" for sandbox in sandboxes]
    return [*ours, *(path for path in loopbacks if path.exists())]


def mounts_below(directories: list[Path], mountinfo: str) -> list[str]:
    """Mount points below the directories, the deepest and latest first: the order in which they can be unmounted."""
    found: list[str] = []
    for line in mountinfo.splitlines():
        fields = line.split()
        if len(fields) < 5:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), fields[4])
        if any(point.startswith(f"{directory}/") for directory in directories):
            found.append(point)
    return found[::-1]


def mounts(layout: Layout) -> list[str]:
    """Mount points of this cluster and of its image store."""
    places = [layout.cluster.resolve(), layout.cache.resolve()]
    return mounts_below(places, Path("/proc/self/mountinfo").read_text())


def own_processes(layout: Layout) -> list[int]:
    """Processes that carry this cluster's mark or live in its cgroup, except this one and those that wait for it."""
    waiting = _ancestors()
    marked = {pid for pid, cluster in members().items() if cluster == layout.member}
    return sorted((marked | cgroups.processes(layout)) - waiting)


def _ancestors() -> set[int]:
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = parent_of(pid)
    return found


@dataclass(frozen=True)
class Before:
    """How the machine was before `up`: which fixed places existed, and the kernel's settings."""

    outside: tuple[str, ...]
    settings: dict[str, str]


def record(layout: Layout) -> None:
    """Writes down how the machine is now, unless that was done before: the first thing that `up` does."""
    path = layout.cluster / "before.json"
    if path.exists():
        return
    layout.cluster.mkdir(parents=True, exist_ok=True, mode=0o755)
    content = {"outside": [place for place in OUTSIDE if os.path.lexists(place)], "settings": network.read_settings()}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2))
    part.replace(path)


def recorded(layout: Layout) -> Before | None:
    """What `record` wrote, or None."""
    try:
        content = json.loads((layout.cluster / "before.json").read_text())
    except (OSError, ValueError):
        return None
    return Before(outside=tuple(content["outside"]), settings=dict(content["settings"]))


def half_made(layout: Layout) -> list[Path]:
    """What commands that were killed left half done in the cache."""
    patterns = (
        "tmp",
        "bin/*.part",
        "go/*.modules",
        "oci*/index.json.part",
        "oci*/oci-put-blob*",
        "oci*/blobs/sha256/*.part",
        "oci*/blobs/sha256/*.link",
    )
    return sorted(path for pattern in patterns for path in layout.cache.glob(pattern))


def new_outside(layout: Layout) -> list[str]:
    """Fixed places that exist now and did not before `up`."""
    before = recorded(layout)
    known = OUTSIDE if before is None else before.outside
    return [place for place in OUTSIDE if place not in known and os.path.lexists(place)]


def find(layout: Layout) -> list[str]:
    """Everything of this cluster that is on the machine now, one line each; an empty list after `down`.

    What killed commands left half done in the cache does not count: it is no cluster, and goes with the next one.
    """
    found = [f"process {pid} ({_command(pid)})" for pid in own_processes(layout)]
    found += [f"mount {point}" for point in mounts(layout)]
    found += [f"interface {name}" for name in [*network.bridge_ports(), *([BRIDGE] if network.bridge_exists() else [])]]
    for family, tables in firewall.find().items():
        found += [f"{family} chain {table.name}/{chain}" for table in tables for chain in table.chains]
        found += [f"{family} rule {table.name}: {rule}" for table in tables for rule in table.rules]
    found += [f"cgroup {path}" for path in cgroups.directories(layout)]
    found += [
        f"file {path}"
        for path in [*cni_results(layout), *node.container_log_links(layout), *node.device_plugin_files(layout)]
    ]
    found += [f"file {place}" for place in new_outside(layout)]
    if containerd.is_dirty(layout):
        found.append(f"containers in the image store {layout.containerd_root}")
    found += [f"file {path}" for path in [layout.cluster] if path.exists()]
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    except OSError:
        return "ended"

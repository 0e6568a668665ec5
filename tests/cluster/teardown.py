"""Taking the cluster off the machine. There is one way, for a healthy cluster and for one that crashed anywhere:
end every process, then remove what is found, and look again.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster import cgroups, containerd, firewall, leftovers, locks, network, node
from tests.cluster.layout import Layout
from tests.cluster.processes import end
from tests.cluster.steps import Progress

_MNT_DETACH = 2


class LeftoversError(Exception):
    """Something could not be removed; the text lists it."""


def _unmount(point: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(point), 0) != 0:
        libc.umount2(os.fsencode(point), _MNT_DETACH)


def end_processes(layout: Layout) -> None:
    """Ends every process of this cluster, also those that a killed command left behind."""
    # The kubelet first, so that nobody restarts what the others leave behind; a few rounds, since what is ended may
    # have been about to start something.
    kubelet = [pid for pid in leftovers.own_processes(layout) if "kubelet" in _program(pid)]
    end(kubelet, patience=1)
    for patience in (1.5, 1.0, 1.0, 0.0, 0.0):
        pids = leftovers.own_processes(layout)
        if not pids:
            # One that was becoming another program just then could not be recognised: look a second time.
            time.sleep(0.05)
            pids = leftovers.own_processes(layout)
        if not pids:
            return
        end(pids, patience=patience)


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""


def _unmount_all(layout: Layout) -> None:
    for _ in range(5):
        points = leftovers.mounts(layout)
        if not points:
            return
        for point in points:
            _unmount(point)


def _remove_outside_files(layout: Layout) -> None:
    ours = [*leftovers.cni_results(layout), *node.container_log_links(layout), *node.device_plugin_files(layout)]
    for path in ours:
        path.unlink(missing_ok=True)
    containerd.remove_dead_sockets()
    for place in leftovers.new_outside(layout):
        _delete(Path(place))


def _delete(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    # A mount below would let this delete files of another file system: nothing is deleted while there is one.
    if leftovers.mounts_below([path.resolve()], Path("/proc/self/mountinfo").read_text()):
        raise LeftoversError(f"something is still mounted below {path}")
    shutil.rmtree(path, ignore_errors=True)


def tear_down(layout: Layout, progress: Progress | None = None) -> None:
    """Removes the cluster of this layout; LeftoversError names what could not be removed. The cache stays."""
    say = progress.say if progress else (lambda _text: None)
    # Whoever builds an image just now may finish; what a killed one left running is ended below.
    with locks.images(layout, say):
        _tear_down(layout, say)


def _tear_down(layout: Layout, say: Callable[[str], None]) -> None:
    say("ending processes")
    end_processes(layout)
    say("removing mounts, interfaces, packet filter chains and cgroups")
    _unmount_all(layout)
    network.remove_interfaces()
    firewall.remove()
    cgroups.remove_patiently(layout)
    if containerd.is_dirty(layout):
        say("removing the pods' containers from the image store")
        containerd.purge(layout)
        end_processes(layout)
        _unmount_all(layout)
    before = leftovers.recorded(layout)
    if before is not None:
        network.restore_settings(before.settings)
    say("removing files")
    _remove_outside_files(layout)
    for path in leftovers.half_made(layout):
        _delete(path)
    _delete(layout.cluster)
    found = leftovers.find(layout)
    if found:
        raise LeftoversError("these could not be removed:\n  " + "\n  ".join(found))

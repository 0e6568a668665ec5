"""containerd: its configuration, start, and the removal of what pods of an earlier cluster left in its store."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

from tests.cluster.layout import Layout
from tests.cluster.network import cni_plugin_directory
from tests.cluster.processes import Daemon, end, output, running_pid, start, wait_for, write_if_changed

NAMESPACE = "k8s.io"
_CRI = "io.containerd.grpc.v1.cri"
CONTENT = "io.containerd.content.v1.content"
# Fixed in containerd's source: the sockets of its shims lie here, whatever `state` says.
SHIM_SOCKETS = Path("/run/containerd/s")


def configuration(layout: Layout, *, sandbox_image: str | None, cni_plugins: str) -> str:
    """config.toml. Without a sandbox image the CRI service is left out: enough to look after the store."""
    runtime = layout.cluster / "containerd"
    quoted = json.dumps
    disabled = [] if sandbox_image else [_CRI]
    text = f"""version = 2
root = {quoted(str(layout.containerd_root))}
state = {quoted(str(runtime / "state"))}
temp = {quoted(str(runtime / "temp"))}
disabled_plugins = {json.dumps(disabled)}

[grpc]
  address = {quoted(str(layout.containerd_socket))}

[plugins."io.containerd.gc.v1.scheduler"]
  startup_delay = "60s"

[plugins."io.containerd.internal.v1.opt"]
  path = {quoted(str(runtime / "opt"))}
"""
    if sandbox_image is None:
        return text
    return (
        text
        + f"""
[plugins."{_CRI}"]
  sandbox_image = {quoted(sandbox_image)}
  # Where root lacks CAP_SYS_RESOURCE, runc could not lower the score and dies.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."{_CRI}".cni]
    bin_dir = {quoted(cni_plugins)}
    conf_dir = {quoted(str(layout.config / "cni"))}

  [plugins."{_CRI}".containerd]
    snapshotter = "overlayfs"

    [plugins."{_CRI}".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."{_CRI}".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = {quoted(str(runtime / "runc"))}
"""
    )


def _daemon(layout: Layout, name: str) -> Daemon:
    config = layout.config / f"{name}.toml"
    return Daemon(name, ("containerd", f"--config={config}"), ahead=False)


def ctr(layout: Layout, *arguments: str) -> str:
    """The output of a ctr command in the kubelet's namespace."""
    return output(["ctr", f"--address={layout.containerd_socket}", f"--namespace={NAMESPACE}", *arguments])


def _answers(layout: Layout) -> bool:
    command = ["ctr", f"--address={layout.containerd_socket}", "--timeout=2s", "version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _start(layout: Layout, name: str, sandbox_image: str | None) -> None:
    (layout.cluster / "containerd" / "temp").mkdir(parents=True, exist_ok=True)
    layout.containerd_root.mkdir(parents=True, exist_ok=True)
    plugins = cni_plugin_directory() if sandbox_image else ""
    text = configuration(layout, sandbox_image=sandbox_image, cni_plugins=plugins)
    start(layout, _daemon(layout, name), again=write_if_changed(layout.config / f"{name}.toml", text))
    wait_for(layout, name, "it answers", lambda: _answers(layout), seconds=60)


def start_containerd(layout: Layout, sandbox_image: str) -> None:
    """Starts containerd for the kubelet, and marks its store as possibly holding containers."""
    layout.containerd_root.mkdir(parents=True, exist_ok=True)
    _in_use(layout).touch()
    _start(layout, "containerd", sandbox_image)


def _in_use(layout: Layout) -> Path:
    return layout.cache / "containerd.in-use"


def is_dirty(layout: Layout) -> bool:
    """Whether the store may hold containers of a cluster that is gone."""
    return _in_use(layout).exists()


def purge(layout: Layout) -> None:
    """Removes containers and their writable layers from the store; images stay. No other containerd may run on it."""
    if not is_dirty(layout):
        return
    if layout.containerd_root.is_dir():
        # Files of CRI's own about sandboxes and containers: host names, resolv.conf.
        for name in ("sandboxes", "containers"):
            shutil.rmtree(layout.containerd_root / _CRI / name, ignore_errors=True)
        # Halves of blobs whose import was killed.
        shutil.rmtree(layout.containerd_root / CONTENT / "ingest", ignore_errors=True)
        _start(layout, "containerd-purge", None)
        try:
            for container in ctr(layout, "containers", "list", "--quiet").split():
                ctr(layout, "containers", "delete", container)
            for line in ctr(layout, "snapshots", "list").splitlines()[1:]:
                key, kind = line.split()[0], line.split()[-1]
                if kind in ("Active", "View"):
                    ctr(layout, "snapshots", "remove", key)
            for lease in ctr(layout, "leases", "list", "--quiet").split():
                ctr(layout, "leases", "delete", lease)
        finally:
            pid = running_pid(layout, "containerd-purge")
            if pid is not None:
                end([pid])
    _in_use(layout).unlink(missing_ok=True)


def remove_dead_sockets() -> None:
    """Removes shim sockets that nobody listens on; another containerd's living ones stay."""
    if not SHIM_SOCKETS.is_dir():
        return
    listening = Path("/proc/net/unix").read_text(errors="replace")
    for path in SHIM_SOCKETS.iterdir():
        if str(path) not in listening:
            path.unlink(missing_ok=True)
    for directory in (SHIM_SOCKETS, SHIM_SOCKETS.parent):
        with contextlib.suppress(OSError):
            directory.rmdir()

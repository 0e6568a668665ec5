"""Building images without a Docker engine: buildah in namespaces of its own, so that nothing of it outlives it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.layout import Layout
from tests.cluster.processes import Commands, environment, write_if_changed
from tests.cluster.steps import StepError

# Its mounts lie in a mount namespace and its processes in a process namespace: both vanish with the first process.
_ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
# The run directory is a fresh memory file system, as after a reboot, which buildah's storage knows how to handle. What
# it knows about compressed layers lies in a place fixed in its source: ours is mounted there, for this process alone.
_SET_UP = """
mount -t tmpfs tmpfs "$0" || exit 1
[ -d /var/lib/containers ] || made=yes
mkdir -p /var/lib/containers && mount --bind "$1" /var/lib/containers || exit 1
shift
"$@"
code=$?
[ -z "$made" ] || { umount /var/lib/containers; rmdir /var/lib/containers; }
exit $code
"""
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def alone(command: Sequence[str | Path]) -> list[str | Path]:
    """A command in mount and process namespaces of its own."""
    return [*_ALONE, *command]


def storage_driver(layout: Layout) -> str:
    """`overlay` where this kernel and file system can do it, else `vfs`, which copies every layer whole."""
    if chosen := os.environ.get("STORAGE_DRIVER"):
        return chosen
    place = layout.cache / "buildah"
    place.mkdir(parents=True, exist_ok=True)
    script = (
        'mkdir -p "$0/try/l" "$0/try/u" "$0/try/w" "$0/try/m" && '
        'mount -t overlay overlay -o "lowerdir=$0/try/l,upperdir=$0/try/u,workdir=$0/try/w" "$0/try/m"'
    )
    script += '; code=$?; umount "$0/try/m"; rm -rf "$0/try"; exit $code'
    words = ["unshare", "--mount", "sh", "-c", script, str(place)]
    done = subprocess.run(words, capture_output=True, check=False, env=environment(layout))
    return "overlay" if done.returncode == 0 else "vfs"


def command(layout: Layout, *arguments: str | Path) -> list[str | Path]:
    """A buildah command on our own image store."""
    store, run, known, networks = (
        layout.cache / name for name in ("buildah", "buildah-run", "buildah-known", "buildah-networks")
    )
    for directory in (store, run, known, networks):
        directory.mkdir(parents=True, exist_ok=True)
    settings = layout.cache / "containers.conf"
    write_if_changed(settings, f'[network]\nnetwork_config_dir = "{networks}"\n')
    words = ["env", f"CONTAINERS_CONF={settings}", "buildah", f"--root={store}", f"--runroot={run}",
             f"--storage-driver={storage_driver(layout)}", *arguments]  # fmt: skip
    return alone(["sh", "-c", _SET_UP, run, known, *words])


def machine_mounts() -> list[str]:
    """What this machine needs to reach its package indexes, mounted into builds and never part of an image."""
    mounts: list[str] = []
    if Path(_CERTIFICATES).exists():
        mounts.append(f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro")
    configured = os.environ.get("PIP_CONFIG_FILE") or "/etc/pip.conf"
    if Path(configured).is_file() and configured != os.devnull:
        mounts.append(f"--volume={configured}:/etc/pip.conf:ro")
    return mounts


def build_arguments(
    *, tag: str, dockerfile: Path, context: Path, base: str | None, build_args: Mapping[str, str]
) -> list[str | Path]:
    """The arguments of `buildah build` for an ordinary Dockerfile; `base` goes in as the build argument BASE."""
    arguments = {**build_args, **({"BASE": base} if base is not None else {})}
    return [
        "build", "--layers", "--pull=never", "--isolation=chroot", "--network=host", f"--tag={tag}",
        *(f"--build-arg={name}={value}" for name, value in sorted(arguments.items())),
        *machine_mounts(),
        f"--file={dockerfile}",
        context,
    ]  # fmt: skip


def push_arguments(reference: str, directory: Path, name: str) -> list[str | Path]:
    """The arguments of `buildah push` into an OCI layout. Layers that lie there already are not compressed again."""
    return ["push", "--quiet", "--compression-format=zstd", "--compression-level=1", "--format=oci", reference,
            f"oci:{directory}:{name}"]  # fmt: skip


def run(layout: Layout, commands: Commands, log: str, *arguments: str | Path) -> None:
    """Runs buildah with a log file."""
    commands.run(log, command(layout, *arguments))


def read(layout: Layout, *arguments: str | Path) -> str:
    """The output of a short buildah command."""
    done = subprocess.run(
        [str(word) for word in command(layout, *arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(layout),
    )
    if done.returncode != 0:
        raise StepError(f"buildah {arguments[0]}: {done.stderr.strip()[-1500:]}")
    return done.stdout


def has(layout: Layout, reference: str) -> bool:
    """Whether our image store holds an image of this name."""
    try:
        read(layout, "inspect", "--type=image", "--format={{.FromImageID}}", reference)
    except StepError:
        return False
    return True

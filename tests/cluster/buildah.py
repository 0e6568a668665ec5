"""Building images without a Docker engine: buildah in namespaces of its own, so that nothing of it outlives it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.layout import Layout
from tests.cluster.processes import Commands, environment
from tests.cluster.steps import StepError

# Its mounts lie in a mount namespace and its processes in a process namespace: both vanish with the first process.
# The run directory is a fresh memory file system, as after a reboot, which buildah's storage knows how to handle.
_ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
_WITH_RUN_DIRECTORY = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
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
    run = layout.cache / "buildah-run"
    run.mkdir(parents=True, exist_ok=True)
    (layout.cache / "buildah").mkdir(parents=True, exist_ok=True)
    words = ["buildah", f"--root={layout.cache / 'buildah'}", f"--runroot={run}",
             f"--storage-driver={storage_driver(layout)}", *arguments]  # fmt: skip
    return alone(["sh", "-c", _WITH_RUN_DIRECTORY, run, *words])


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

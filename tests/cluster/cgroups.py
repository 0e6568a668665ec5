"""The cgroup that holds every pod: one directory in each hierarchy, on both versions of cgroups."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from tests.cluster.layout import Layout

ROOT = Path("/sys/fs/cgroup")


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Where hierarchies are mounted: several under `root` with version 1, `root` itself with version 2."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink()) if root.is_dir() else []


def directories(layout: Layout, root: Path = ROOT) -> list[Path]:
    """Our cgroup's directory in each hierarchy in which it exists."""
    return [path for hierarchy in hierarchies(root) if (path := hierarchy / layout.tag).is_dir()]


def create(layout: Layout, root: Path = ROOT) -> None:
    """Makes our cgroup in every hierarchy."""
    for hierarchy in hierarchies(root):
        path = hierarchy / layout.tag
        path.mkdir(exist_ok=True)
        if (hierarchy / "cgroup.controllers").exists():
            # Version 2: children may only use the controllers that their parents hand down, one level at a time.
            enabled = " ".join(f"+{name}" for name in (hierarchy / "cgroup.controllers").read_text().split())
            for parent in (hierarchy, path):
                with contextlib.suppress(OSError):
                    (parent / "cgroup.subtree_control").write_text(enabled)
        for name in ("cpuset.cpus", "cpuset.mems"):
            # Version 1: a cpuset is born empty, and nothing can run in an empty one.
            if (path / name).exists() and (hierarchy / name).exists() and not (path / name).read_text().strip():
                (path / name).write_text((hierarchy / name).read_text())


def processes(layout: Layout, root: Path = ROOT) -> set[int]:
    """The ids of all processes in our cgroup, at any depth."""
    found: set[int] = set()
    for directory in directories(layout, root):
        for path in directory.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in path.read_text().split())
    found.discard(0)  # seen from a process namespace, a process outside of it
    return found


def remove_patiently(layout: Layout, root: Path = ROOT) -> None:
    """Removes our cgroup, again and again for a few seconds: a process that just died keeps its own busy a little."""
    for _ in range(50):
        remove(layout, root)
        if not directories(layout, root):
            return
        time.sleep(0.1)


def remove(layout: Layout, root: Path = ROOT) -> None:
    """Removes our cgroup, children first. One that still holds a process stays, and is found again."""
    for directory in directories(layout, root):
        for path, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)

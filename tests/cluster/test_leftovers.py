"""Finding what a cluster left, and the bookkeeping that tells ours from what was there before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import cgroups, leftovers, node, processes
from tests.cluster.layout import MEMBER_VARIABLE, Layout

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 254:0 /x /srv/cluster rw - ext4 /dev/vda rw
31 22 0:40 / /srv/cluster/containerd/state/one/rootfs rw - overlay overlay rw
32 31 0:41 / /srv/cluster/containerd/state/one/rootfs/dev\\040shm rw - tmpfs tmpfs rw
33 22 0:42 / /srv/cluster-of-somebody-else/pod rw - tmpfs tmpfs rw
"""


def layout(tmp_path: Path) -> Layout:
    return Layout(cluster=tmp_path / "cluster", cache=tmp_path / "cache", repository=tmp_path)


def test_mounts_are_found_below_a_directory_and_in_the_order_in_which_they_can_be_unmounted() -> None:
    # A file system that somebody mounted at the directory itself is not ours to take away.
    assert leftovers.mounts_below([Path("/srv/cluster")], MOUNTS) == [
        "/srv/cluster/containerd/state/one/rootfs/dev shm",
        "/srv/cluster/containerd/state/one/rootfs",
    ]


def test_a_machine_with_nothing_of_a_cluster_has_no_leftovers(tmp_path: Path) -> None:
    places = layout(tmp_path)
    assert leftovers.own_processes(places) == []
    assert leftovers.mounts(places) == []
    assert leftovers.cni_results(places) == []
    assert leftovers.half_made(places) == []


def test_a_marked_process_is_found_whoever_its_parent_is_and_can_be_ended(tmp_path: Path) -> None:
    places = layout(tmp_path)
    script = "import subprocess as s; print(s.Popen(['sleep', '600'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
    env = {**os.environ, MEMBER_VARIABLE: places.member}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    orphan = int(done.stdout)
    assert leftovers.own_processes(places) == [orphan]
    assert processes.end([orphan]) == []
    assert leftovers.own_processes(places) == []


def test_a_marked_process_is_found_in_the_moment_in_which_it_becomes_another_program(tmp_path: Path) -> None:
    places = layout(tmp_path)
    env = {**os.environ, MEMBER_VARIABLE: places.member}
    for _ in range(100):
        # Popen returns once the new program is certain to begin, before its environment can be read.
        with subprocess.Popen(["sleep", "600"], env=env) as started:
            found = processes.member_of(started.pid)
            started.kill()
        assert found == places.member


def test_a_process_without_an_environment_belongs_to_no_cluster() -> None:
    with subprocess.Popen(["sleep", "600"], env={}) as started:
        found = processes.member_of(started.pid)
        started.kill()
    assert found is None


def test_a_process_id_that_another_program_got_is_not_taken_for_the_daemon(tmp_path: Path) -> None:
    places = layout(tmp_path)
    places.pids.mkdir(parents=True)
    (places.pids / "etcd").write_text(f"{os.getpid()}\n")
    assert not processes.is_running(places, "etcd")


def test_the_first_record_of_the_machine_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = layout(tmp_path)
    there, later = tmp_path / "there", tmp_path / "later"
    there.mkdir()
    monkeypatch.setattr(leftovers, "OUTSIDE", (str(there), str(later)))
    leftovers.record(places)
    later.mkdir()
    leftovers.record(places)
    assert leftovers.new_outside(places) == [str(later)]


def test_without_a_record_nothing_outside_counts_as_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "OUTSIDE", (str(tmp_path),))
    assert leftovers.new_outside(layout(tmp_path)) == []


def test_only_links_to_our_own_pods_logs_are_ours(tmp_path: Path) -> None:
    places = layout(tmp_path)
    directory = tmp_path / "containers"
    directory.mkdir()
    (directory / "ours.log").symlink_to(places.cluster / "pods" / "x" / "0.log")
    (directory / "theirs.log").symlink_to("/var/log/pods/y/0.log")
    (directory / "file.log").write_text("")
    assert [path.name for path in node.container_log_links(places, directory)] == ["ours.log"]


def test_cgroups_of_version_one_are_made_filled_and_removed_in_every_hierarchy(tmp_path: Path) -> None:
    places = layout(tmp_path)
    root = tmp_path / "cgroup"
    for name in ("cpu", "cpuset"):
        (root / name).mkdir(parents=True)
    cgroups.create(places, root)
    assert [path.parent.name for path in cgroups.directories(places, root)] == ["cpu", "cpuset"]
    (root / "cpu" / places.tag / "pod").mkdir()
    (root / "cpu" / places.tag / "pod" / "cgroup.procs").write_text("12\n0\n")
    assert cgroups.processes(places, root) == {12}
    (root / "cpu" / places.tag / "pod" / "cgroup.procs").unlink()  # a real cgroup's files go with it
    cgroups.remove(places, root)
    assert cgroups.directories(places, root) == []


def test_cgroups_of_version_two_hand_their_controllers_down(tmp_path: Path) -> None:
    places = layout(tmp_path)
    root = tmp_path / "cgroup"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpu memory\n")
    cgroups.create(places, root)
    assert (root / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (root / places.tag / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert cgroups.directories(places, root) == [root / places.tag]

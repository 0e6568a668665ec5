"""Real clusters on a machine of their own (isolation.py): brought up, used, killed, taken down, and nothing left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import binaries, local
from tests.cluster.isolation import Machine, child_of, isolated
from tests.cluster.layout import Layout, default_layout
from tests.cluster.network import SETTINGS
from tests.cluster.processes import Commands
from tests.cluster.steps import Progress

pytestmark = [pytest.mark.teardown, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = [step.name for step in local.Up(default_layout(), Progress(), ()).steps()]
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: sleeper}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: sleeper
    image: IMAGE
    resources: {limits: {nvidia.com/gpu: "2"}}
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes: [{name: scratch, emptyDir: {}}]
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    """The programs, built once for all tests here (and for the cluster that everyone else uses)."""
    layout = default_layout()
    return binaries.build(layout, Commands(layout, logs=layout.cache / "logs"))[0]


@pytest.fixture
def machine(programs: Path) -> Iterator[Machine]:
    """A machine with the programs in its cache. Under /var/tmp: a memory file system could not hold its layers."""
    directory = Path("/var/tmp") / f"trimtab-machine-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    with isolated(directory, REPOSITORY) as made:
        (made.cache / "bin").mkdir()
        shutil.copytree(programs, made.cache / "bin" / programs.name, copy_function=_link)
        yield made


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@dataclass(frozen=True)
class Look:
    """What can be seen of a cluster from a machine, without the cluster's own code."""

    processes: dict[int, str]
    mounts: set[str]
    interfaces: set[str]
    chains: set[str]
    cgroups: set[str]
    files: set[str]
    settings: dict[str, str]


def look(machine: Machine) -> Look:
    mounts = {line.split()[4] for line in machine.run("cat", "/proc/self/mountinfo").stdout.splitlines()}
    interfaces = {line.split()[1] for line in machine.run("ip", "-oneline", "link").stdout.splitlines()}
    chains: set[str] = set()
    for family in ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"):
        for line in machine.run(f"{family}-save", check=False).stdout.splitlines():
            # A chain without a policy is not the kernel's own; a rule is somebody's.
            if line.startswith("-A") or (line.startswith(":") and line.split()[1] == "-"):
                chains.add(f"{family} {line}")
    tag = Layout(cluster=machine.cluster, cache=machine.cache, repository=machine.repository).tag
    cgroups = {str(path) for pattern in (tag, f"*/{tag}") for path in Path("/sys/fs/cgroup").glob(pattern)}
    settings = {name: machine.run("cat", f"/proc/sys/{name}", check=False).stdout for name in SETTINGS}
    return Look(machine.processes(), mounts, interfaces, chains, cgroups, machine.written_files(), settings)


def cache_without_stores(machine: Machine) -> set[str]:
    """What lies in the cache besides what is meant to stay."""
    stay = {"bin", "containerd", "oci-pause", "logs", "cluster.lock", "images.lock"}
    return {path.name for path in machine.cache.iterdir()} - stay


def start_pod(machine: Machine, name: str) -> None:
    image = next(
        word
        for word in machine.run(
            "ctr", "-a", machine.cluster / "containerd" / "containerd.sock", "-n", "k8s.io", "images", "list", "-q"
        ).stdout.split()
        if "/pause:" in word
    )
    machine.kubectl("apply", "-f", "-", stdin=POD.replace("NAME", name).replace("IMAGE", image))
    machine.kubectl("wait", "pod", name, "--for=condition=Ready", "--timeout=90s")


def pids(machine: Machine) -> dict[str, str]:
    return {path.name: machine.run("cat", path).stdout for path in map(machine.cluster.joinpath, _pid_files())}


def _pid_files() -> list[str]:
    return [f"pids/{name}" for name in local.DAEMONS]


def test_a_cluster_that_was_up_leaves_nothing_behind(machine: Machine) -> None:
    before = look(machine)
    machine.cluster_run("up")
    start_pod(machine, "first")
    node = json.loads(machine.kubectl("get", "node", "trimtab-node", "-o", "json"))
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "4"
    during = look(machine)
    assert during.processes
    assert during.chains
    assert during.cgroups
    assert {name.rstrip(":") for name in during.interfaces} >= {"lo", "trimtab0"}

    machine.cluster_run("down")

    assert look(machine) == before
    assert cache_without_stores(machine) == set()
    again = machine.cluster_run("down")
    assert "there is no cluster" in again.stdout


def test_up_over_a_running_cluster_changes_nothing_and_starts_what_has_died(machine: Machine) -> None:
    machine.cluster_run("up")
    start_pod(machine, "first")
    started = pids(machine)

    machine.cluster_run("up")
    assert pids(machine) == started

    machine.run("kill", "-9", started["kubelet"].strip(), started["kube-scheduler"].strip())
    assert machine.cluster_run("status", check=False).returncode == 1
    machine.cluster_run("up")

    now = pids(machine)
    assert {name for name in now if now[name] != started[name]} == {"kubelet", "kube-scheduler"}
    assert machine.cluster_run("status").returncode == 0
    machine.kubectl("wait", "pod", "first", "--for=condition=Ready", "--timeout=60s")


def test_up_starts_cleanly_over_what_a_machine_keeps_when_all_its_processes_were_killed(machine: Machine) -> None:
    before = look(machine)
    machine.cluster_run("up")
    start_pod(machine, "first")
    identity = machine.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    machine.kill_everything()
    # Halves of an image and of a build, as a killed download and a killed compiler leave them.
    (machine.cache / "oci-pause" / "blobs" / "sha256" / "0000.part").write_bytes(b"half")
    (machine.cache / "bin" / "0000000000000000.part").mkdir()
    left = look(machine)
    assert not left.processes
    assert left.mounts > before.mounts
    assert left.chains
    assert any("trimtab0" in name for name in left.interfaces)

    said = machine.cluster_run("up").stdout
    assert "clearing away" in said
    assert machine.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}") != identity
    assert machine.kubectl("get", "pods", "-A", "-o", "name") == ""
    start_pod(machine, "second")

    machine.kill_everything()
    machine.cluster_run("down")
    assert look(machine) == before


@pytest.mark.parametrize("step", STEPS)
def test_up_killed_in_the_middle_of_a_step_leaves_nothing_that_down_does_not_remove(
    machine: Machine, step: str
) -> None:
    if step == "programs":
        shutil.rmtree(machine.cache / "bin")  # so that there is a build to be killed
    before = look(machine)
    kill_up_at(machine, step)

    machine.cluster_run("down")

    after = look(machine)
    compiler_cache = str(Path.home() / ".cache" / "go-build")
    assert {path for path in after.files if not path.startswith(compiler_cache)} == before.files
    assert (after.processes, after.mounts, after.interfaces) == (before.processes, before.mounts, before.interfaces)
    assert (after.chains, after.cgroups, after.settings) == (before.chains, before.cgroups, before.settings)
    assert cache_without_stores(machine) == set()


def kill_up_at(machine: Machine, step: str) -> None:
    """Starts `up` and sends it SIGKILL shortly after it says that it starts the step; its children live on."""
    process = machine.start(*machine.cluster_command("up"))
    assert process.stdout is not None
    for line in process.stdout:
        if line.rstrip().endswith(f"start: {step}"):
            break
    else:
        raise AssertionError(f"`up` never started the step {step}")
    time.sleep(0.3)
    # `process` is nsenter, and its child is the command; the last step may have let it end in the meantime.
    command = child_of(process.pid)
    if command is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(command, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_up_that_is_interrupted_ends_the_build_that_it_had_started(machine: Machine, how: signal.Signals) -> None:
    shutil.rmtree(machine.cache / "bin")
    process = machine.start(*machine.cluster_command("up"))
    assert process.stdout is not None
    while not any(" build " in line for line in machine.processes().values()):
        assert process.poll() is None
        time.sleep(0.1)
    command = child_of(process.pid)
    assert command is not None
    os.kill(command, how)
    assert process.wait(timeout=60) == 130
    assert "interrupted" in process.stdout.read()
    process.stdout.close()
    patience = time.monotonic() + 30
    while any(" build " in line for line in machine.processes().values()):
        assert time.monotonic() < patience, machine.processes()
        time.sleep(0.2)
    machine.cluster_run("down")


def test_up_after_a_killed_up_starts_from_nothing(machine: Machine) -> None:
    kill_up_at(machine, "kubelet")
    said = machine.cluster_run("up").stdout
    assert "clearing away" in said
    start_pod(machine, "first")


def test_a_step_that_fails_is_named_with_its_log_file_and_the_end_of_it(machine: Machine) -> None:
    listener = "import socket,time; s=socket.create_server(('127.0.0.1',2379)); print('on',flush=True); time.sleep(600)"
    taken = machine.start("python3", "-c", listener)
    assert taken.stdout is not None
    assert taken.stdout.readline() == "on\n"

    failed = machine.cluster_run("up", check=False)

    assert failed.returncode == 1
    assert "step 'etcd' failed: etcd stopped before it is healthy" in failed.stderr
    assert f"log file: {machine.cluster / 'logs' / 'etcd.log'}" in failed.stderr
    assert "address already in use" in failed.stderr
    taken.kill()
    taken.wait()
    taken.stdout.close()
    machine.kill_everything()


def test_an_image_build_that_was_killed_can_be_ended_and_done_again() -> None:
    directory = Path("/var/tmp") / f"trimtab-build-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    finish = "from tests.cluster import layout, teardown; teardown.end_processes(layout.default_layout())"
    # With this machine's network, since the build downloads packages. Nothing below touches interfaces or filters.
    with isolated(directory, REPOSITORY, own_network=False) as machine:
        before, written = machine.run("cat", "/proc/self/mountinfo").stdout, machine.written_files()
        for victim in ("mmdebstrap", "pip install"):
            build = machine.start(*machine.cluster_command("images", "testkit"))
            assert build.stdout is not None
            while not any(victim in line for line in machine.processes().values()):
                assert build.poll() is None, build.stdout.read()
                time.sleep(0.2)
            command = child_of(build.pid)
            assert command is not None
            os.kill(command, signal.SIGKILL)
            build.wait()
            build.stdout.close()
            assert machine.processes(), "what the killed command had started lives on"
            machine.run(sys.executable, "-c", finish)
            assert machine.processes() == {}
            assert machine.run("cat", "/proc/self/mountinfo").stdout == before

        said = machine.cluster_run("images", "testkit").stdout

        assert "built" in said
        assert machine.run("cat", "/proc/self/mountinfo").stdout == before
        assert machine.written_files() == written


def test_a_second_cluster_on_one_machine_is_refused(machine: Machine) -> None:
    machine.cluster_run("up")
    elsewhere = machine.run(
        "env", "TRIMTAB_CLUSTER_DIR=/var/lib/trimtab-another", *machine.cluster_command("up"), check=False
    )
    assert elsewhere.returncode == 1
    assert f"another cluster of this kind runs here ({machine.cluster})" in elsewhere.stderr

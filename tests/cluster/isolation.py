"""A machine of its own for tests that bring clusters up, kill them and look at what is left.

Namespaces for processes, network and mounts, and a root file system that is this machine's with a layer above: every
file that is made or changed shows in that layer, and a cluster that others use on this machine notices nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import cgroups
from tests.cluster.layout import Layout
from tests.cluster.leftovers import OUTSIDE

# $0: the directory with the layer; $1: a directory that is seen inside as it is, and not through the layer (containerd
# and buildah cannot put their own layers on top of one); the rest: what is not there inside, whatever is outside.
_PREPARE = """
set -e
mount --make-rprivate /
mkdir -p "$0/upper" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
cd "$0/root"
mount --rbind /dev dev
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t proc proc proc
mount -t tmpfs tmpfs run
case "$REPOSITORY" in
  /tmp/*) ;; # a checkout below /tmp must stay to be seen; the layer keeps what is written there
  *) mount -t tmpfs tmpfs tmp ;;
esac
mount --bind "$1" "$0/root$1"
pivot_root . .
umount -l .
cd /
ip link set lo up
shift
# A cluster that runs outside may add a file in between: then again.
for attempt in 1 2 3 4 5; do
  if rm -rf "$@"; then break; fi
done
echo ready
exec sleep infinity
"""

_KUBECTL_CACHE = Path("/tmp/kubectl")


@dataclass
class Machine:
    """A machine made by `isolated`."""

    init: int
    layer: Path
    cache: Path
    cluster: Path
    repository: Path
    env: dict[str, str] = field(default_factory=dict)

    def command(self, words: Sequence[str | Path]) -> list[str]:
        """The command that runs `words` inside."""
        enter = ["nsenter", f"--target={self.init}", "--mount", "--net", "--pid", "--ipc", "--uts"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(self.repository), *(str(word) for word in words)]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of commands inside: this one's, with a cluster and a cache of its own."""
        own = {
            "TRIMTAB_CLUSTER_DIR": str(self.cluster),
            "TRIMTAB_CACHE": str(self.cache),
            "CLUSTER": "local",
            "PYTHONDONTWRITEBYTECODE": "1",
            "KUBECACHEDIR": str(_KUBECTL_CACHE),
        }
        path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
        return {**os.environ, **self.env, **own, "PATH": path, **(extra or {})}

    def run(self, *words: str | Path, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command inside to its end."""
        done = subprocess.run(
            self.command(words), env=self.environment(), capture_output=True, text=True, check=False, input=stdin
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Starts a command inside; its standard output and error come through one pipe."""
        return subprocess.Popen(
            self.command(words),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def cluster_command(self, *words: str) -> list[str]:
        """`python -m tests.cluster ...`, inside, with this test's own interpreter."""
        return [sys.executable, "-m", "tests.cluster", *words]

    def cluster_run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `python -m tests.cluster ...` inside to its end."""
        return self.run(*self.cluster_command(*words), check=check)

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """The output of kubectl inside."""
        kubeconfig = f"--kubeconfig={self.cluster / 'kubeconfig'}"
        return self.run(self.cluster / "bin" / "kubectl", kubeconfig, *words, stdin=stdin, check=check).stdout

    def processes(self) -> dict[int, str]:
        """Processes inside by their id there (the first one and the one that looks are left out)."""
        script = r'for d in /proc/[0-9]*; do printf "%s %s\n" "${d#/proc/}" "$(tr "\0\n" "  " <$d/cmdline)"; done'
        lines = self.run("sh", "-c", script).stdout.splitlines()
        found = {int(line.split()[0]): line.partition(" ")[2].strip() for line in lines}
        return {pid: line for pid, line in found.items() if pid != 1 and line and script[:20] not in line}

    def kill_everything(self) -> None:
        """SIGKILL to every process inside but the first: what is left is what a machine keeps."""
        for _ in range(10):
            if not self.processes():
                return
            self.run("sh", "-c", "kill -9 -1", check=False)
            time.sleep(0.2)

    def written_files(self) -> set[str]:
        """Files and directories that were made, changed or deleted inside and still show it. A directory that the
        real machine has too only shows that something below it was touched, and is left out, as is the cache of the
        test's own kubectl.
        """
        upper = self.layer / "upper"
        found: set[str] = set()
        for path in upper.rglob("*"):
            real = Path("/") / path.relative_to(upper)
            if real == _KUBECTL_CACHE or _KUBECTL_CACHE in real.parents:
                continue
            if not (path.is_dir() and not path.is_symlink() and real.is_dir()):
                found.add(str(real))
        return found


def child_of(pid: int) -> int | None:
    """The first child of a process."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


@contextlib.contextmanager
def isolated(directory: Path, repository: Path, *, own_network: bool = True) -> Iterator[Machine]:
    """Makes a machine; `directory` must lie on an ordinary file system. Without a network of its own it reaches
    package indexes, and nothing in it may touch interfaces or packet filters.
    """
    layer, cache = directory / "machine", directory / "cache"
    cluster = Path("/var/lib") / f"{directory.name}-cluster"
    layer.mkdir(parents=True)
    cache.mkdir(parents=True)
    # No mark of another cluster may come along: what runs inside is found by it.
    env = {name: value for name, value in os.environ.items() if name != "TRIMTAB_CLUSTER_MEMBER"}
    env["REPOSITORY"] = str(repository)
    spaces = ["--mount", "--pid", "--ipc", "--uts", *(["--net"] if own_network else [])]
    words = ["unshare", *spaces, "--fork", "--kill-child", "sh", "-c", _PREPARE, str(layer), str(cache), *OUTSIDE]
    outer = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert outer.stdout is not None
    said = outer.stdout.readline()
    try:
        init = child_of(outer.pid)
        if said.strip() != "ready" or init is None:
            raise AssertionError(f"no machine could be made: {said}{outer.stdout.read()}")
        yield Machine(
            init=init,
            layer=layer,
            cache=cache,
            cluster=cluster,
            repository=repository,
        )
    finally:
        # With the first process, the kernel ends all others of its process namespace before it lets it go itself.
        if (first := child_of(outer.pid)) is not None:
            os.kill(first, signal.SIGKILL)
        outer.wait()
        outer.stdout.close()
        # Cgroups are the one thing that the kernel keeps in common: a test that failed may have left some.
        cgroups.remove_patiently(Layout(cluster=cluster, cache=cache, repository=repository))
        shutil.rmtree(directory, ignore_errors=True)

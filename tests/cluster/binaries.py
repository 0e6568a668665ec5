"""The cluster's own programs: one Go build of Kubernetes and Helm, kept in the cache by the hash of what went in."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.layout import Layout
from tests.cluster.processes import Commands, output
from tests.cluster.steps import StepError

SOURCE = Path(__file__).resolve().parent / "kubernetes"
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
PROGRAMS = (".", "./agent", "./pause", "helm.sh/helm/v3/cmd/helm")
_FLAGS = "-mod=readonly -trimpath -buildvcs=false"
# The toolchain that is fetched as a Go module where the machine's own Go is too old to build this.
TOOLCHAIN = "v0.0.1-go1.24.11.linux-amd64"
_OLDEST_GO = (1, 24)


def module_version(go_mod: str, module: str) -> str:
    """The version that a go.mod requires of a module, for example `v1.34.4`."""
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise StepError(f"go.mod does not require {module}")
    return found.group(1)


def linker_flags(go_mod: str) -> str:
    """Flags that give the programs their version: without them the API server says v0.0.0, which clients refuse."""
    kubernetes = module_version(go_mod, "k8s.io/kubernetes")
    helm = module_version(go_mod, "helm.sh/helm/v3")
    major, minor = kubernetes.removeprefix("v").split(".")[:2]
    values = {
        "k8s.io/component-base/version.gitVersion": kubernetes,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/component-base/version.gitTreeState": "clean",
        "helm.sh/helm/v3/internal/version.version": helm,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": major,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": minor,
        "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor": major,
        "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor": minor,
    }
    return "-s -w " + " ".join(f"-X {name}={value}" for name, value in values.items())


def parse_go_version(text: str) -> tuple[int, int]:
    """`go version go1.26.8 linux/amd64` -> (1, 26)."""
    found = re.search(r"\bgo(\d+)\.(\d+)", text)
    if found is None:
        raise StepError(f"cannot read the version of Go from {text!r}")
    return int(found.group(1)), int(found.group(2))


def go_environment(layout: Layout) -> dict[str, str]:
    """What every call of Go here is made with."""
    # GOTOOLCHAIN=local: the version of this very program, not of one that go.mod would make it fetch. Go counts its
    # uses in the user's configuration directory; here it does so where `down` removes it.
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return {
        "GOTOOLCHAIN": "local",
        "GO111MODULE": "on",
        "GOENV": os.environ.get("GOENV") or str(settings / "go" / "env"),
        "XDG_CONFIG_HOME": str(layout.cache / "tmp"),
    }


def go_version(layout: Layout, go: Path) -> str:
    """What `go version` says of itself."""
    return output([go, "version"], env=go_environment(layout)).strip()


def find_go(layout: Layout, commands: Commands) -> Path:
    """A Go that can build the cluster: from PATH, or fetched with an older Go as the toolchain module.

    The module `golang.org/toolchain` holds Go itself and is verified against Go's checksum database like any other.
    """
    fetched = layout.cache / "go" / TOOLCHAIN / "bin" / "go"
    if fetched.exists():
        return fetched
    found = shutil.which("go") or next((str(path) for path in [Path("/usr/local/go/bin/go")] if path.exists()), None)
    if found is None:
        raise StepError("no Go found: run `make setup`, or install Go 1.24 or newer and put it on PATH")
    go = Path(found).resolve()
    if parse_go_version(go_version(layout, go)) >= _OLDEST_GO:
        return go
    _fetch_toolchain(go, fetched.parents[1], commands, go_environment(layout))
    return fetched


def _fetch_toolchain(go: Path, target: Path, commands: Commands, settings: Mapping[str, str]) -> None:
    modules = target.parent / f"{target.name}.modules"
    shutil.rmtree(modules, ignore_errors=True)
    modules.mkdir(parents=True)
    env = {**settings, "GOMODCACHE": str(modules), "GOFLAGS": "-modcacherw"}
    commands.run("go-toolchain", [go, "mod", "download", f"golang.org/toolchain@{TOOLCHAIN}"], cwd=modules, env=env)
    unpacked = modules / "golang.org" / f"toolchain@{TOOLCHAIN}"
    # A module's files carry no mode bits; Go itself restores them when it unpacks a toolchain.
    for folder in (unpacked / "bin", unpacked / "pkg" / "tool"):
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o755)
    shutil.rmtree(target, ignore_errors=True)
    unpacked.rename(target)
    shutil.rmtree(modules, ignore_errors=True)


def source_key(source: Path, go_version: str) -> str:
    """The hash of everything that decides what the build gives."""
    digest = hashlib.sha256("\0".join([*PROGRAMS, _FLAGS, go_version]).encode())
    for path in sorted(source.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(source)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def build(layout: Layout, commands: Commands) -> tuple[Path, bool]:
    """The directory with `kubernetes`, `helm`, `agent` and `pause`, and whether it had to be built now."""
    go = find_go(layout, commands)
    target = layout.cache / "bin" / source_key(SOURCE, go_version(layout, go))
    if target.is_dir():
        return target, False
    half_made = target.with_name(target.name + ".part")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(parents=True)
    go_mod = (SOURCE / "go.mod").read_text()
    # -mod=readonly: what is built is what go.mod and go.sum in the checkout say.
    env = {**go_environment(layout), "CGO_ENABLED": "0", "GOFLAGS": _FLAGS}
    command: list[str | Path] = [go, "build", "-ldflags", linker_flags(go_mod), "-o", f"{half_made}/", *PROGRAMS]
    commands.run("go-build", command, cwd=SOURCE, env=env)
    half_made.rename(target)
    _prune(layout, target)
    return target, True


def _prune(layout: Layout, current: Path) -> None:
    """Removes what older sources built, but the newest of it (two checkouts may share the cache) and what is in use."""
    kept = {current, (layout.bin / "kubectl").resolve().parent}
    older = [path for path in current.parent.iterdir() if path not in kept and path.is_dir()]
    older.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in older[1:]:
        shutil.rmtree(path, ignore_errors=True)


def link(layout: Layout, built: Path) -> None:
    """Gives each component its name: symbolic links in the cluster's `bin`."""
    layout.bin.mkdir(parents=True, exist_ok=True)
    targets = {**dict.fromkeys(COMPONENTS, built / "kubernetes"), "helm": built / "helm", "agent": built / "agent"}
    for name, target in targets.items():
        path = layout.bin / name
        temporary = layout.bin / f".{name}.{os.getpid()}"
        temporary.symlink_to(target)
        temporary.replace(path)


def kubectl(layout: Layout, *arguments: str, stdin: str | None = None) -> str:
    """The output of kubectl against this cluster."""
    return output(_kubectl_command(layout, *arguments), stdin=stdin)


def _kubectl_command(layout: Layout, *arguments: str) -> list[str | Path]:
    shared = (f"--kubeconfig={layout.kubeconfig}", f"--cache-dir={layout.cluster / 'kubectl-cache'}")
    return [layout.bin / "kubectl", *shared, *arguments]


def apply(layout: Layout, manifest: str) -> None:
    """Applies manifests on the server's side, as the cluster's own field manager."""
    how = ("--server-side", "--field-manager=trimtab-cluster", "--force-conflicts")
    kubectl(layout, "apply", *how, "-f", "-", stdin=manifest)


def responds(layout: Layout, path: str) -> bool:
    """Whether the API server answers a GET of `path` with success."""
    command = _kubectl_command(layout, "get", f"--raw={path}", "--request-timeout=3s")
    return subprocess.run(command, capture_output=True, check=False).returncode == 0

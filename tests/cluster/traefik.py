"""Traefik, which implements the Gateway API: one Go build of its published module, kept in the cache by its hash.

It is built in its own module, whose go.mod and go.sum pin everything else, and from its own source but for one file of
a library: that which names the providers of DNS, with whose help certificates are asked for. Nothing asks for one here,
and the clients of 180 providers would be most of the build.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from tests.cluster.binaries import find_go, go_environment, go_version
from tests.cluster.go_modules import fetched
from tests.cluster.layout import Layout
from tests.cluster.processes import Commands, output
from tests.cluster.steps import StepError

MODULE = "github.com/traefik/traefik/v3"
VERSION = "v3.6.12"
SUM = "h1:6pe4s7aaDTQs+AsF7KP3sM/xnq7zOVvibRQe5tw9eFo="  # of all files of the module (MIT)
_CERTIFICATES = "github.com/go-acme/lego/v4"
_PROVIDERS = Path("providers") / "dns"
_NO_PROVIDERS = """// Package dns names no providers: nothing here asks for a certificate.
package dns

import (
	"fmt"

	"github.com/go-acme/lego/v4/challenge"
)

// NewDNSChallengeProviderByName knows none.
func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("unrecognized DNS provider: %s", name)
}
"""
_FLAGS = "-mod=readonly -modcacherw -trimpath -buildvcs=false"


def key(go: str) -> str:
    """The hash of everything that decides what the build gives; `go`: what `go version` says."""
    parts = (MODULE, VERSION, SUM, _NO_PROVIDERS, _FLAGS, go)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def build(layout: Layout, commands: Commands) -> Path:
    """The program; built first where it is not in the cache, which takes minutes. Raises StepError."""
    go = find_go(layout, commands)
    target = layout.cache / "traefik" / key(go_version(layout, go))
    if (target / "traefik").exists():
        return target / "traefik"
    work = target.with_name(f"{target.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    source = copied(fetched(layout, MODULE, VERSION, SUM), work / "source")
    # Its go.mod asks for Go 1.25, which an older Go fetches as a module.
    env = {**go_environment(layout), "GOTOOLCHAIN": "auto", "CGO_ENABLED": "0", "GOFLAGS": _FLAGS}
    library = copied(_required(go, source, env), work / "certificates")
    for path in (library / _PROVIDERS).glob("*.go"):
        path.unlink()
    (library / _PROVIDERS / "none.go").write_text(_NO_PROVIDERS)
    replace: list[str | Path] = [go, "mod", "edit", "-replace", f"{_CERTIFICATES}={library}"]
    commands.run("traefik-build", replace, cwd=source, env=env)
    made = work / "made"
    made.mkdir()
    command: list[str | Path] = [go, "build", "-ldflags", "-s -w", "-o", f"{made}/", "./cmd/traefik"]
    commands.run("traefik-build", command, cwd=source, env=env)
    made.rename(target)
    shutil.rmtree(work)
    for older in target.parent.iterdir():
        if older != target:
            shutil.rmtree(older, ignore_errors=True)
    return target / "traefik"


def copied(module: Path, to: Path) -> Path:
    """A copy that may be written to."""
    shutil.copytree(module, to, copy_function=shutil.copyfile)
    for folder in (to, *(path for path in to.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    return to


def _required(go: Path, source: Path, env: dict[str, str]) -> Path:
    """The directory of the library in the version that Traefik requires, checked against Traefik's go.sum."""
    found = json.loads(output([go, "-C", source, "mod", "download", "-json", _CERTIFICATES], env=env))
    if found.get("Error"):
        raise StepError(f"{_CERTIFICATES} could not be fetched: {found['Error']}")
    return Path(found["Dir"])

"""Public Go modules, fetched whole as they are pinned by their hash, and not copied here."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from tests.cluster.binaries import find_go, go_environment
from tests.cluster.layout import Layout
from tests.cluster.processes import Commands
from tests.cluster.steps import StepError


def fetched(layout: Layout, module: str, version: str, checksum: str) -> Path:
    """The directory of a module, read-only. `checksum`: as in a go.sum, of all its files.

    Go checks what it downloads against its checksum database as well. Raises StepError.
    """
    go = find_go(layout, Commands(layout))
    modules = str(layout.cache / "go" / "modules")
    settings = {**go_environment(layout), "GOFLAGS": "-modcacherw", "GOMODCACHE": modules}
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            [go, "mod", "download", "-json", f"{module}@{version}"],
            cwd=nowhere, env={**os.environ, **settings}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    found = json.loads(done.stdout or "{}")
    if done.returncode != 0 or found.get("Sum") != checksum:
        raise StepError(f"{module}@{version} could not be fetched as pinned: {done.stderr or found}")
    return Path(found["Dir"])

"""Builds Alertmanager where it is not in the cache, and runs it on a free port of 127.0.0.1.

`python -m tests.alertmanager.program` builds it if needed and prints its path.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.binaries import find_go
from tests.cluster.layout import default_layout
from tests.cluster.processes import Commands
from tests.testkit.ports import free_port

SOURCE = Path(__file__).resolve().parent
PROGRAM = "github.com/prometheus/alertmanager/cmd/alertmanager"
_FLAGS = "-mod=readonly -trimpath -buildvcs=false"

CONFIG = """
route: {{receiver: hook, group_by: [service], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: hook
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


def program() -> Path:
    """The program, built on the first call; callers that come meanwhile wait for it."""
    layout = default_layout()
    digest = hashlib.sha256(_FLAGS.encode())
    for name in ("go.mod", "go.sum"):
        digest.update((SOURCE / name).read_bytes())
    target = layout.cache / "alertmanager" / digest.hexdigest()[:16]
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # released when the process ends, however it ends
        if not target.exists():
            with tempfile.TemporaryDirectory() as logs:
                go = find_go(layout, Commands(layout, Path(logs)))
                part = target.with_suffix(".part")
                env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": _FLAGS, "GOTOOLCHAIN": "local"}
                subprocess.run([go, "build", "-o", part, PROGRAM], cwd=SOURCE, env=env, check=True, stdout=2)
                part.rename(target)
    return target


class Alertmanager:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.loads(answer.read())

    def alerts(self) -> list[dict[str, Any]]:
        """What fires, as its API tells it."""
        found: list[dict[str, Any]] = self.get("/api/v2/alerts")
        return found


@contextmanager
def alertmanager(folder: Path, *, webhook: str) -> Iterator[Alertmanager]:
    """An Alertmanager that notifies `webhook`."""
    config = folder / "alertmanager.yml"
    config.write_text(CONFIG.format(url=webhook))
    command = [str(program()), f"--config.file={config}", f"--storage.path={folder / 'data'}"]
    address = f"127.0.0.1:{free_port()}"
    command += [f"--web.listen-address={address}", "--cluster.listen-address="]
    with (folder / "alertmanager.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            running = Alertmanager(f"http://{address}")
            _wait_until_ready(running, process)
            yield running
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(running: Alertmanager, process: subprocess.Popen[bytes]) -> None:
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"Alertmanager ended with {process.returncode}")
        try:
            with urllib.request.urlopen(running.url + "/-/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.05)


if __name__ == "__main__":
    print(program())
    sys.exit(0)

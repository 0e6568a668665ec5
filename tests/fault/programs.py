"""Programs that a test starts and that never outlive it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Programs:
    """Started under `setpriv --pdeathsig KILL`: they end with this process, however that ends."""

    directory: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts one; its output goes to <directory>/<name>.log."""
        with (self.directory / f"{name}.log").open("ab") as log:
            words = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
            process = subprocess.Popen(
                words, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )
        self.running.append(process)
        return process

    def log(self, name: str) -> str:
        """The end of a program's output."""
        return (self.directory / f"{name}.log").read_text(errors="replace")[-3000:]

    def all_alive(self) -> bool:
        return all(process.poll() is None for process in self.running)

    def stop(self) -> None:
        """Ends everything, the last first."""
        for process in reversed(self.running):
            process.terminate()
        for process in reversed(self.running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

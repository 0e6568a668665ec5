"""What the processes of a server use: time on a core, and memory."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

_ENGINE = "VLLM::EngineCore"


class HasProcess(Protocol):
    """A server that runs."""

    @property
    def process(self) -> subprocess.Popen[bytes]: ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """Seconds on a core: of vLLM's process that computes, and of all the others, the API server first of all.

    On a busy machine requests wait for others' work; what the server itself has to do for a token hardly changes.
    """

    engine: float
    rest: float

    @property
    def all(self) -> float:
        return self.engine + self.rest

    def since(self, earlier: Work, tokens: float) -> Work:
        """For each of the tokens that came between the two."""
        return Work(engine=(self.engine - earlier.engine) / tokens, rest=(self.rest - earlier.rest) / tokens)


def family(server: HasProcess) -> list[psutil.Process]:
    """A server's process and all that it started."""
    first = psutil.Process(server.process.pid)
    return [first, *first.children(recursive=True)]


def work(server: HasProcess) -> Work:
    """So far."""
    engine = rest = 0.0
    for process in family(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            if _ENGINE in " ".join(process.cmdline()):
                engine += times.user + times.system
            else:
                rest += times.user + times.system
    return Work(engine=engine, rest=rest)


def memory_bytes(server: HasProcess) -> int:
    """What a server's processes hold of their own: see `memory_by_process`."""
    return sum(memory_by_process(server))


def memory_by_process(server: HasProcess) -> list[int]:
    """Bytes of each process, the first one first; a page that several processes share counts in parts (PSS).

    Pages of files, such as libraries, are left out: their parts change when a stranger that uses them comes or goes.
    """
    held = []
    for process in family(server):
        # A process that has ended, and one that is no more than its exit status, hold nothing.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if own := _of_its_own((Path("/proc") / str(process.pid) / "smaps_rollup").read_text()):
                held.append(own)
    return held


def _of_its_own(rollup: str) -> int:
    """Of the kernel's `/proc/PID/smaps_rollup` (its Documentation/filesystems/proc.rst), in kB there."""
    parts = {name: rest for name, _, rest in (line.partition(":") for line in rollup.splitlines())}
    return sum(int(parts[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem") if name in parts) * 1024

"""Starting, finding and ending the processes of the cluster.

Every process that `up` starts carries MEMBER_VARIABLE in its environment and hands it to its children, so that all of
them are found in /proc whatever became of their parents; a process id alone could have been given to another program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.layout import MEMBER_VARIABLE, Layout
from tests.cluster.steps import StepError

_ENDED = ("Z", "X")  # states of a process that is a zombie or dead
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD among the flags: it never has an environment
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(layout: Layout, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, plus the member mark, a place for temporary files that `down` removes, and the
    system's administrator paths.
    """
    merged = {**os.environ, **(extra or {}), MEMBER_VARIABLE: layout.member, "TMPDIR": str(layout.cache / "tmp")}
    merged["PATH"] = f"{merged.get('PATH', '')}:{SYSTEM_PATH}"
    return merged


class Commands:
    """Runs commands to their end with a log file each, and can end all that still run (after a failure)."""

    def __init__(self, layout: Layout, logs: Path | None = None) -> None:
        self._layout = layout
        self._logs = logs or layout.logs
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._cancelled = False
        self._begun: set[str] = set()

    def run(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        attempts: int = 1,
    ) -> None:
        """Runs a command; its output goes to <logs>/<name>.log, after that of earlier ones of the same name. Raises
        StepError when it fails `attempts` times.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        if name not in self._begun:
            self._begun.add(name)
            log.unlink(missing_ok=True)
        code = 0
        for attempt in range(attempts):
            if attempt:
                time.sleep(2 * attempt)
            code = self._once(log, command, cwd=cwd, env=env, stdin=stdin)
            if code == 0 or self._cancelled:
                break
        if self._cancelled:
            raise StepError(f"{name}: ended because another step failed")
        if code != 0:
            shown = " ".join(str(word) for word in command)
            raise StepError(f"`{shown[:200]}` ended with exit status {code}", log)

    def _once(
        self,
        log: Path,
        command: Sequence[str | Path],
        *,
        cwd: Path | None,
        env: Mapping[str, str] | None,
        stdin: bytes | None,
    ) -> int:
        (self._layout.cache / "tmp").mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=cwd,
                env=environment(self._layout, env),
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            with self._lock:
                self._running.add(process)
            try:
                process.communicate(stdin)
            finally:
                with self._lock:
                    self._running.discard(process)
        return process.returncode

    def cancel(self) -> None:
        """Ends every command that still runs, with its children."""
        with self._lock:
            self._cancelled = True
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)


def output(command: Sequence[str | Path], *, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """The standard output of a short command; StepError with its standard error when it fails."""
    merged = {**os.environ, **(env or {})}
    merged["PATH"] = f"{merged.get('PATH', '')}:{SYSTEM_PATH}"
    done = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, text=True, env=merged, check=False
    )
    if done.returncode != 0:
        shown = " ".join(str(word) for word in command)
        raise StepError(f"`{shown[:200]}` ended with exit status {done.returncode}: {done.stderr.strip()[-1500:]}")
    return done.stdout


@dataclass(frozen=True)
class Daemon:
    """A program that keeps running: its name (of the log and the pid file) and command.

    `ahead`: it goes before pods when the processors are busy, as on a machine of its own. Not for what starts pods:
    they would inherit it.
    """

    name: str
    command: tuple[str, ...]
    ahead: bool = True


def write_if_changed(path: Path, text: str) -> bool:
    """Writes a configuration file, at once and only when its content differs; whether it did. (kube-proxy, for one,
    ends itself when its file is written.)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_text() == text:
        return False
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)
    return True


def start(layout: Layout, daemon: Daemon, *, again: bool = False) -> None:
    """Starts a daemon unless it runs already with the same command; `again` restarts it in any case. Its output goes
    to <logs>/<name>.log.
    """
    running = running_pid(layout, daemon.name)
    if running is not None:
        if not again and _command_line(running)[-len(daemon.command) :] == daemon.command:
            return
        end([running])
    layout.logs.mkdir(parents=True, exist_ok=True)
    layout.pids.mkdir(parents=True, exist_ok=True)
    with (layout.logs / f"{daemon.name}.log").open("ab") as log:
        process = subprocess.Popen(
            ["nice", "--adjustment=-5", *daemon.command] if daemon.ahead else daemon.command,
            cwd=layout.cluster,
            env=environment(layout),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (layout.pids / daemon.name).write_text(f"{process.pid}\n")
    # The daemon outlives us; without this, Popen warns that nobody waited for it.
    process.returncode = 0


def _command_line(pid: int) -> tuple[str, ...]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return ()
    return tuple(word.decode(errors="replace") for word in words)


def running_pid(layout: Layout, name: str) -> int | None:
    """The process id of a running daemon of this cluster, or None."""
    try:
        pid = int((layout.pids / name).read_text())
    except (OSError, ValueError):
        return None
    return pid if member_of(pid) == layout.member and not _is_zombie(pid) else None


def is_running(layout: Layout, name: str) -> bool:
    """Whether the daemon of this name runs."""
    return running_pid(layout, name) is not None


def _environment(pid: int) -> bytes:
    """The environment that a process was started with, as in /proc; empty where it has none or may not be read.

    While a process becomes another program, its environment reads as empty for a moment, so that one is read again.
    """
    for _ in range(50):
        try:
            content = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return b""
        if content or not _may_be_becoming_another_program(pid):
            return content
        time.sleep(0.01)
    return b""


def _may_be_becoming_another_program(pid: int) -> bool:
    """Whether an environment that read as empty may be filled a moment later; proc_pid_stat(5) has the numbers."""
    fields = _stat(pid)
    if not fields or fields[0] in _ENDED or int(fields[6]) & _KERNEL_THREAD:
        return False
    start, end = int(fields[47]), int(fields[48])
    return end == 0 or start != end


def member_of(pid: int) -> str | None:
    """The cluster directory that a process is marked with, or None."""
    mark = f"{MEMBER_VARIABLE}=".encode()
    for entry in _environment(pid).split(b"\0"):
        if entry.startswith(mark):
            return entry[len(mark) :].decode(errors="replace")
    return None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third, the state, on; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return not fields or fields[0] in _ENDED


def parent_of(pid: int) -> int:
    """The id of a process's parent; 0 where there is none, or no such process."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def members() -> dict[int, str]:
    """Every living process that carries the mark: its id and the cluster directory it belongs to."""
    found: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (cluster := member_of(int(entry))) is not None and not _is_zombie(int(entry)):
            found[int(entry)] = cluster
    return found


def end(pids: Sequence[int], *, patience: float = 10.0) -> list[int]:
    """Asks processes to end, insists after `patience` seconds; returns the ids of those that are still there."""
    for number, limit in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        pids = [pid for pid in pids if not _is_zombie(pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + limit
        while pids and time.monotonic() < deadline:
            pids = [pid for pid in pids if not _is_zombie(pid)]
            if pids:
                time.sleep(0.05)
    return list(pids)


def answers(url: str) -> bool:
    """Whether a GET, past any proxy, is answered with status 200. For health checks on this machine only: a
    component's self-made certificate is not verified.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=3) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_for(layout: Layout, name: str, what: str, condition: Callable[[], bool], *, seconds: float) -> None:
    """Waits until `condition()` is true. StepError with the daemon's log when it stops or takes too long."""
    log = layout.logs / f"{name}.log"
    deadline = time.monotonic() + seconds
    while not condition():
        if not is_running(layout, name):
            raise StepError(f"{name} stopped before {what}", log)
        if time.monotonic() > deadline:
            raise StepError(f"{name} runs, but after {seconds:.0f} s it is not true that {what}", log)
        time.sleep(0.1)

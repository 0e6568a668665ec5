"""Runs one engine after the other, each as a process of its own, until one ends as the server should."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from trimtab_engine.config.model import Config
from trimtab_engine.engines.chain import Chain, Ending, Passed, Why, after, missing
from trimtab_engine.engines.registry import ENGINES
from trimtab_engine.gpus.recovery import Action, Decision
from trimtab_engine.server.placing import Placer
from trimtab_engine.server.speculating import begin
from trimtab_engine.shared.folder import CHAIN, REASON, SERVING, START, WANTED, replace_json, said_why

log = logging.getLogger("trimtab_engine.chain")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Found before there are threads: a child of a process with threads had better load nothing.
_PRCTL = ctypes.CDLL(None).prctl
NO_ENGINE = 3  # the exit status where no engine's libraries are there
NO_GPU = 4  # the exit status where a GPU has failed and nothing can go on without it
_LOOK_SECONDS = 0.2
# A process that computes on a GPU which is lost may wait in the driver and not even be killed.
_STUCK_SECONDS = 60.0


def is_installed(library: str) -> bool:
    """Whether a library could be imported; it is not."""
    return importlib.util.find_spec(library) is not None


class Runner:
    """Starts engines and passes our signals on to the one that runs."""

    def __init__(self, config: Config, folder: Path, environment: Mapping[str, str], placer: Placer) -> None:
        self._config = config
        self._folder = folder
        self._environment = environment
        self._placer = placer
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False

    def run(self, has: Callable[[str], bool] = is_installed) -> int:
        """The exit status of the server."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._forward)
        passed: tuple[Passed, ...] = ()
        code = NO_ENGINE
        for place, name in enumerate(self._config.engines.preference):
            over = missing(name, ENGINES[name].libraries, has) or self._without_gpus(name)
            if over is None:
                replace_json(self._folder / CHAIN, Chain(engine=name, passed=passed).as_json())
                others = place + 1 < len(self._config.engines.preference)
                code, over = self._turn(name, others=others)
            if over is None or self._asked:
                break
            log.error("%s", over.message)
            passed = (*passed, over)
        return code if code >= 0 else 128 - code

    def _without_gpus(self, name: str) -> Passed | None:
        why = self._placer.begin(name)
        return Passed(engine=name, why=Why.GPU_FAILED, message=why) if why else None

    def _turn(self, name: str, *, others: bool) -> tuple[int, Passed | None]:
        """One engine, started again as often as its GPUs ask for it, and without guesses where it does not come up with
        them: its exit status, and why it was passed over, or None where the server ends with it."""
        fault = ""
        while True:
            placed = self._placer.config()
            replace_json(self._folder / START, placed.model_dump(mode="json"))
            config = begin(placed, self._folder, fault=fault)
            ending, decision = self._one(ENGINES[name].command(config), others=others)
            over = after(name, ending)
            if decision is None or self._asked:
                if config.speculation.method == "off" or over is None or ending.served or self._asked:
                    return ending.code, over
                fault = over.message
            elif decision.action is Action.END:
                return NO_GPU, None
            elif decision.action is Action.NEXT:
                return NO_GPU, Passed(engine=name, why=Why.GPU_FAILED, message=decision.message)

    def _one(self, command: Sequence[str], *, others: bool) -> tuple[Ending, Decision | None]:
        """One engine from its start to its end, and what a GPU has to do with it. What is left in the folder of one
        before it is taken away."""
        rings = (*self._folder.glob("board-*"), *self._folder.glob("starts-*"))
        for path in (*(self._folder / name for name in (SERVING, REASON, WANTED)), *rings):
            path.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            command,
            env=self._placer.environment(self._environment),
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        if self._asked:  # the signal came before there was a process
            self._process.terminate()
        decision, reason = self._attend(self._process, others=others)
        code = self._process.wait()
        end_group(self._process.pid)
        served = (self._folder / SERVING).exists()
        ending = Ending(code=code, served=served, asked=self._asked, reason=reason or said_why(self._folder))
        if decision is None and not reason and not self._asked and after("", ending) is not None:
            decision = _acting(self._placer.look(others=others, ended=True))
        if decision is not None:
            self._placer.follow(decision)
        return ending, decision

    def _attend(self, process: subprocess.Popen[bytes], *, others: bool) -> tuple[Decision | None, str]:
        """Waits for the engine's end, or ends it: for a GPU that failed, or because it did not serve in time."""
        until = time.monotonic() + self._config.engines.start_seconds
        serves = False
        while process.poll() is None:
            serves = serves or (self._folder / SERVING).exists()
            if not serves and time.monotonic() > until:
                process.kill()
                return None, f"it took longer than {self._config.engines.start_seconds} s"
            decision = None if self._asked else _acting(self._placer.look(others=others))
            if decision is not None:
                return self._end(process, decision), ""
            time.sleep(_LOOK_SECONDS if serves else _LOOK_SECONDS / 2)
        return None, ""

    def _end(self, process: subprocess.Popen[bytes], decision: Decision) -> Decision:
        """Kills the engine, whose requests fail as when it dies by itself."""
        _kill_group(process.pid)
        try:
            process.wait(_STUCK_SECONDS)
        except subprocess.TimeoutExpired:
            log.critical("%s The engine does not end, and holds its port: the server ends instead.", decision.message)
            os._exit(NO_GPU)
        return decision

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._process is not None:
            self._process.send_signal(number)


def _acting(decision: Decision | None) -> Decision | None:
    """The decision where it changes something."""
    return None if decision is None or decision.action is Action.GO_ON else decision


def _end_with_parent() -> None:
    """In the child: the kernel kills it when we are killed, so that no engine is left without its server."""
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_group(group: int) -> None:
    """What an engine that was killed left of its processes would keep the memory and the port from the next one: a
    driver may take seconds until it has tidied up behind each of them."""
    until = time.monotonic() + _STUCK_SECONDS
    while _lives(group) and time.monotonic() < until:
        _kill_group(group)
        time.sleep(0.05)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _lives(group: int) -> bool:
    """Whether a process of the group is there that has not ended (proc_pid_stat(5)). One that has, and that nobody
    has waited for, holds nothing."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False

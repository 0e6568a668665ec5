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
from trimtab_engine.engines.chain import Chain, Ending, Passed, after, missing
from trimtab_engine.engines.registry import ENGINES, Engine
from trimtab_engine.server.speculating import begin
from trimtab_engine.shared.folder import CHAIN, REASON, SERVING, WANTED, replace_json, said_why

log = logging.getLogger("trimtab_engine.chain")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
NO_ENGINE = 3  # the exit status where no engine's libraries are there


def is_installed(library: str) -> bool:
    """Whether a library could be imported; it is not."""
    return importlib.util.find_spec(library) is not None


class Runner:
    """Starts engines and passes our signals on to the one that runs."""

    def __init__(self, config: Config, folder: Path, environment: Mapping[str, str]) -> None:
        self._config = config
        self._folder = folder
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False

    def run(self, has: Callable[[str], bool] = is_installed) -> int:
        """The exit status of the server."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._forward)
        passed: tuple[Passed, ...] = ()
        code = NO_ENGINE
        for name in self._config.engines.preference:
            engine = ENGINES[name]
            over = missing(name, engine.libraries, has)
            if over is None:
                replace_json(self._folder / CHAIN, Chain(engine=name, passed=passed).as_json())
                ending = self._started(engine)
                code, over = ending.code, after(name, ending)
            if over is None or self._asked:
                break
            log.error("%s", over.message)
            passed = (*passed, over)
        return code if code >= 0 else 128 - code

    def _started(self, engine: Engine) -> Ending:
        """The engine with guesses where they are asked for; where it does not come up so, without."""
        config = begin(self._config, self._folder)
        ending = self._one(engine.command(config))
        over = after(engine.name, ending)
        if config.speculation.method == "off" or over is None or ending.served or self._asked:
            return ending
        return self._one(engine.command(begin(self._config, self._folder, fault=over.message)))

    def _one(self, command: Sequence[str]) -> Ending:
        """One engine from its start to its end. What is left in the folder of one before it is taken away."""
        rings = (*self._folder.glob("board-*"), *self._folder.glob("starts-*"))
        for path in (*(self._folder / name for name in (SERVING, REASON, WANTED)), *rings):
            path.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            command, env=self._environment, start_new_session=True, preexec_fn=_end_with_parent
        )
        if self._asked:  # the signal came before there was a process
            self._process.terminate()
        reason = ""
        if self._wait_until_it_serves(self._process):
            reason = f"it took longer than {self._config.engines.start_seconds} s"
            self._process.kill()
        code = self._process.wait()
        _end_group(self._process.pid)
        served = (self._folder / SERVING).exists()
        return Ending(code=code, served=served, asked=self._asked, reason=reason or said_why(self._folder))

    def _wait_until_it_serves(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it took longer than it may."""
        until = time.monotonic() + self._config.engines.start_seconds
        while process.poll() is None and not (self._folder / SERVING).exists():
            if time.monotonic() > until:
                return True
            time.sleep(0.1)
        return False

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._process is not None:
            self._process.send_signal(number)


def _end_with_parent() -> None:
    """In the child: the kernel kills it when we are killed, so that no engine is left without its server."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_group(group: int) -> None:
    """What an engine that was killed left of its processes would keep the memory and the port from the next one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)

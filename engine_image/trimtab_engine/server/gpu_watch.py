"""Has the GPUs read, beside everything else, and knows how each of them fares."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from trimtab_engine.config.gpus import GpusConfig
from trimtab_engine.gpus.health import Gpu, after
from trimtab_engine.gpus.reading import Snapshot, snapshot_from_json, visible

log = logging.getLogger("trimtab_engine.gpus")

# How long NVML is left alone after it did not answer, or its reader ended.
_AGAIN_SECONDS = 30.0
_PIECE = 1 << 16


class GpuWatch:
    """Reads in a process, which a thread listens to: what waits for the driver are these two alone.

    `looks` counts what came, so that others see whether there is something new. `absent` says why there are no
    readings; empty where there are.
    """

    def __init__(self, config: GpusConfig, environment: Mapping[str, str]) -> None:
        self._config = config
        self._environment = dict(environment)
        self._condition = threading.Condition()
        self._gpus: dict[str, Gpu] = {}
        self._visible: tuple[str, ...] | None = None
        self._absent = ""
        self._looks = 0
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Returns after the first look, or when that took too long."""
        why = self._why_not()
        if why:
            self._take(Snapshot(absent=why))
            return
        self._thread = threading.Thread(target=self._watch, name="gpus", daemon=True)
        self._thread.start()
        self.wait_for(1, self._config.timeout_seconds + 1)

    def wait_for(self, looks: int, seconds: float) -> bool:
        """Whether that many looks were there within the time."""
        with self._condition:
            return self._condition.wait_for(lambda: self._looks >= looks, seconds)

    def close(self) -> None:
        """Ends the reader; one that waits for the driver may only go later."""
        self._stop.set()
        process = self._process
        if process is not None:
            process.kill()
        if self._thread is not None:
            self._thread.join(5)

    @property
    def looks(self) -> int:
        return self._looks

    @property
    def absent(self) -> str:
        return self._absent if self._looks else "NVML has not answered yet"

    @property
    def watched(self) -> bool:
        """Whether a look has ever seen a GPU."""
        return bool(self._gpus)

    @property
    def fresh_seconds(self) -> float:
        """After how long a look that begins now is there for sure, or will not come."""
        return self._config.interval_seconds + self._config.timeout_seconds

    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that the engine may have, in its order; none where CUDA_VISIBLE_DEVICES names something else."""
        known = self._gpus
        return tuple(known[uuid] for uuid in self._visible or () if uuid in known)

    def others(self) -> tuple[Gpu, ...]:
        """GPUs of the pod that the engine may not have, or of which that is not known."""
        may = set(self._visible or ())
        return tuple(gpu for uuid, gpu in self._gpus.items() if uuid not in may)

    def _why_not(self) -> str:
        if not self._config.watch:
            return "gpus.watch is false"
        if importlib.util.find_spec("pynvml") is None:
            return "nvidia-ml-py is not installed"
        return ""

    def _take(self, snapshot: Snapshot) -> None:
        with self._condition:
            if snapshot.absent != self._absent or not self._looks:
                self._tell(snapshot)
            self._absent = snapshot.absent
            before, self._gpus = self._gpus, after(self._gpus, snapshot)
            if self._visible is None and not snapshot.absent:
                found = visible(snapshot, self._environment.get("CUDA_VISIBLE_DEVICES"))
                self._visible = None if found is None else tuple(gpu.uuid for gpu in found)
            self._looks += 1
            self._condition.notify_all()
        for uuid, gpu in self._gpus.items():
            if uuid not in before or before[uuid].assessment.reason is not gpu.assessment.reason:
                self._say(gpu)

    def _tell(self, snapshot: Snapshot) -> None:
        if snapshot.absent:
            log.log(logging.WARNING if self.watched else logging.INFO, "GPUs are not watched: %s.", snapshot.absent)
        else:
            log.info("%d GPUs are watched.", len(snapshot.gpus))

    def _say(self, gpu: Gpu) -> None:
        if gpu.assessment.message:
            log.warning("%s", gpu.sentence())
        elif self._looks > 1:
            log.info("%s is well.", gpu.reading.label())

    # In the thread.

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                final = self._listen()
            except Exception as error:  # the server goes on without
                log.exception("The GPUs could not be read")
                self._take(Snapshot(absent=f"the reader failed: {type(error).__name__}: {error}"))
                final = False
            if final:
                return
            self._stop.wait(_AGAIN_SECONDS)

    def _listen(self) -> bool:
        """One reader from its start to its end; whether another one would say the same."""
        command = [sys.executable, "-m", "trimtab_engine.gpus.nvml", str(self._config.interval_seconds)]
        # A group of its own: what is typed at a terminal is for us.
        process = subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._process = process
        assert process.stdout is not None
        try:
            last = self._follow(process.stdout.fileno())
        finally:
            process.kill()
            process.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for the driver; nobody waits for it
                process.wait(1)
        return last is not None and bool(last.absent) and not self.watched

    def _follow(self, source: int) -> Snapshot | None:
        """Takes what the reader says until it ends or says nothing for too long; its last word, None for the latter."""
        last, rest = None, b""
        while not self._stop.is_set():
            ready, _, _ = select.select([source], [], [], self.fresh_seconds)
            if self._stop.is_set():
                return last
            if not ready:
                self._take(Snapshot(absent=f"NVML did not answer within {self._config.timeout_seconds:g} s"))
                return None
            piece = os.read(source, _PIECE)
            if not piece:
                break
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                last = snapshot_from_json(_document(line))
                self._take(last)
        if last is None or not last.absent:
            if not self._stop.is_set():
                self._take(Snapshot(absent="the program that reads NVML ended"))
            return None
        return last


def _document(line: bytes) -> dict[str, Any]:
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError("the reader said something else than an object")
    return document

"""Named steps that wait for each other, run in parallel where they can, and say how long they took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path


class StepError(Exception):
    """A step failed: what was attempted, and the log file that tells more (None where there is none)."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Step:
    """One step: it runs once all steps named in `after` are done. `run` may return a note for the progress line."""

    name: str
    run: Callable[[], str | None]
    after: tuple[str, ...] = ()


class Progress:
    """Prints one line when a step starts and one when it is done, with the seconds since the beginning."""

    def __init__(self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write or (lambda line: print(line, flush=True))
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()

    def seconds(self) -> float:
        """Seconds since this progress began."""
        return self._clock() - self._began

    def say(self, text: str) -> None:
        """One line, stamped with the elapsed time."""
        with self._lock:
            self._write(f"[{self.seconds():7.1f} s] {text}")


def tail(path: Path, lines: int = 25) -> str:
    """The last lines of a log file, indented; empty where there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


def describe_failure(name: str, error: BaseException) -> str:
    """What a person needs after a failure: the step, what went wrong, the log file and its end."""
    text = f"step '{name}' failed: {error}"
    log = error.log if isinstance(error, StepError) else None
    if log is not None:
        text += f"\n  log file: {log}\n{tail(log)}"
    return text


class StepsFailed(Exception):  # noqa: N818 - it names what happened
    """At least one step failed; the text describes the first."""


def check_order(steps: Sequence[Step]) -> None:
    """Raises ValueError where a step waits for an unknown or a later one: the list must read in order of need."""
    seen: set[str] = set()
    for step in steps:
        unknown = [name for name in step.after if name not in seen]
        if unknown:
            raise ValueError(f"step '{step.name}' waits for {unknown}, not listed before it")
        if step.name in seen:
            raise ValueError(f"two steps are named '{step.name}'")
        seen.add(step.name)


def run_steps(
    steps: Sequence[Step], progress: Progress, *, cancel: Callable[[], None] = lambda: None, workers: int = 8
) -> None:
    """Runs the steps. After the first failure no further step starts, `cancel` is called once to end what still
    runs, and StepsFailed describes that first failure. An interrupt calls `cancel` too, and waits for nothing.
    """
    check_order(steps)
    done: set[str] = set()
    waiting = list(steps)
    running: dict[Future[None], str] = {}
    failure: str | None = None

    def run(step: Step) -> None:
        began = time.monotonic()
        progress.say(f"start: {step.name}")
        note = step.run()
        progress.say(f"done:  {step.name} ({time.monotonic() - began:.1f} s){': ' + note if note else ''}")

    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        while running or (waiting and failure is None):
            if failure is None:
                for step in [step for step in waiting if done.issuperset(step.after)]:
                    waiting.remove(step)
                    running[pool.submit(run, step)] = step.name
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future)
                error = future.exception()
                if error is None:
                    done.add(name)
                elif failure is None:
                    failure = describe_failure(name, error)
                    progress.say(f"FAILED: {name}; ending what still runs")
                    cancel()
    except KeyboardInterrupt:
        cancel()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise StepsFailed(failure)

"""`python -m tests.e2e.demo`: plays the demo, prints what happens, and leaves its report in a folder."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from tests.cluster.handle import CommandError
from tests.e2e import operator
from tests.e2e.access import Access, AnswerError
from tests.e2e.demo import report, stage, timeline
from tests.e2e.demo.kills import Kills
from tests.e2e.demo.result import Result
from tests.e2e.demo.stage import NAME, NAMESPACE, Stage
from tests.e2e.demo.story import Demo, Pace, Telling
from tests.e2e.demo.table import LiveTable
from tests.e2e.pods import PodWatch
from tests.e2e.scenario import selector
from tests.e2e.waiting import DidNotHappenError

T = TypeVar("T")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.demo", description=__doc__)
    parser.add_argument("--engine", choices=sorted(stage.ENGINE_IMAGES), default="vllm", help="what serves")
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of the report")
    parser.add_argument("--clients", type=int, default=32, help="clients that always have a request under way")
    parser.add_argument("--measure-seconds", type=float, default=60.0, help="length of both measurements")
    parser.add_argument(
        "--kill-operator-every", type=float, default=0.0, metavar="SECONDS", help="kill it again and again; 0: never"
    )
    parser.add_argument("--keep", action="store_true", help="leave the service running afterwards")
    return parser


class Run:
    """One run of the demo, from the cluster to the report."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self._options = options
        self._console = console
        self._out: Path = options.out
        self._telling = Telling()
        self._demo: Demo | None = None
        self._access: Access | None = None
        self._stage: Stage | None = None
        self.result = Result(engine=options.engine, replicas=0, interval_seconds=0)

    def go(self) -> int:
        """The exit status: 0 when the whole story happened."""
        self._out.mkdir(parents=True, exist_ok=True)
        try:
            self._set_stage()
            self._play()
        except (DidNotHappenError, CommandError, AnswerError, stage.StageError) as error:
            self.result.error = str(error)
        except KeyboardInterrupt:
            self.result.error = "interrupted"
        self._write()
        self._print()
        if self._stage and not self._options.keep:
            self._stage.clear()
        return 0 if self.result.happened else 1

    def _set_stage(self) -> None:
        engine = self._options.engine
        access = self._access = Access(self._timed("cluster", stage.cluster))
        references = self._timed("images", lambda: stage.images(engine))
        self._stage = self._timed("operator", lambda: stage.set_stage(engine, access, references))
        self.result.replicas = self._stage.service.replicas
        self.result.interval_seconds = self._stage.service.interval_seconds

    def _play(self) -> None:
        assert self._stage is not None
        pace = Pace(measure=self._options.measure_seconds)
        kills = Kills(operator.InCluster(self._stage.access).kill, self._options.kill_operator_every)
        with PodWatch(self._stage.access, NAMESPACE, selector(NAME)) as pods, LiveTable(self._console) as table:
            self._demo = Demo(self._stage, table, pods, self.result, pace, self._telling)
            try:
                with kills:
                    self._demo.play(self._options.clients)
            finally:
                self.result.operator_kills = kills.count

    def _timed(self, name: str, act: Callable[[], T]) -> T:
        self._console.print(f"{name} ...")
        began = time.monotonic()
        try:
            return act()
        finally:
            self.result.seconds[name] = time.monotonic() - began
            self._console.print(f"{name}: {self.result.seconds[name]:.1f} s")

    def _save(self, name: str, text: str) -> str:
        (self._out / name).write_text(text, encoding="utf-8")
        return text

    def _write(self) -> None:
        """Everything that is known, however far the demo came."""
        self.result.write(self._out / "result.json")
        if self._access is None:
            return
        handle = self._access.handle
        describe = self._save(
            "describe.txt", handle.kubectl("describe", "llmdep", NAME, namespace=NAMESPACE, check=False)
        )
        events = self._save(
            "events.txt",
            handle.kubectl("get", "events", "--sort-by=.lastTimestamp", namespace=NAMESPACE, check=False),
        )
        self._save("pods.txt", handle.kubectl("describe", "pods", namespace=NAMESPACE, check=False))
        self._save("operator.log", operator.InCluster(self._access).logs())
        if self._stage:
            self._save("failed-requests.txt", self._stage.load.failures())
        samples = self._demo.observer.samples if self._demo else []
        timeline.draw(samples, self._telling.marks, self._out / "timeline.png")
        story = report.Story(
            facts=self._facts(self._access),
            told=self._telling.acts,
            attempts=samples[-1].view.attempts if samples else [],
            plan=self._telling.plan,
            describe=describe,
            events=events,
        )
        report.write(self.result, story, self._out / "timeline.png", self._out / "report.html")

    def _facts(self, access: Access) -> list[tuple[str, str]]:
        try:
            version = str(access.get("/version")["gitVersion"])
        except AnswerError:
            version = "unknown"
        named = {"vllm": "vLLM on the CPU, a Llama of 76 M parameters with random weights", "emulator": "the emulator"}
        return [
            ("engine", named[self.result.engine]),
            ("Kubernetes", version),
            ("machine", f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"),
            ("replicas", str(self.result.replicas)),
            ("evaluated every", f"{self.result.interval_seconds} s"),
            ("load", f"{self._options.clients} clients, 64 tokens in and 64 out, one connection per request"),
        ]

    def _print(self) -> None:
        table = Table(title="Before and after")
        for name, justify in (("", "left"), ("before", "right"), ("after", "right"), ("after / before", "right")):
            table.add_column(name, justify="left" if justify == "left" else "right")
        for row in report.comparison(self.result.baseline, self.result.tuned):
            table.add_row(*row)
        describe = self._out / "describe.txt"
        if describe.exists():
            self._console.print(f"$ kubectl describe llmdep {NAME} --namespace {NAMESPACE}", style="bold")
            self._console.print(describe.read_text(encoding="utf-8"), markup=False, highlight=False, soft_wrap=True)
        self._console.print(table)
        for check in self.result.checks():
            self._console.print(f"{'yes' if check.holds else 'NO '}  {check.text}: {check.measured}", soft_wrap=True)
        if self.result.error:
            self._console.print(f"The demo did not come to its end: {self.result.error}", markup=False, soft_wrap=True)
        found = self._out / ("report.html" if self._access else "result.json")
        self._console.print(f"The report is {found}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; 0 when the whole story happened."""
    options = _parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 140)
    return Run(options, console).go()


if __name__ == "__main__":
    sys.exit(main())

"""The live table: redrawn on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.e2e.demo.samples import Sample

_COLUMNS = ("time", "phase", "bottleneck", "tokens/s", "TTFT p50", "TTFT p95", "ITL p95", "failed", "ready pods")
_RIGHT = {"tokens/s", "TTFT p50", "TTFT p95", "ITL p95", "failed"}
_WIDTHS = (7, 15, 19, 8, 8, 8, 8, 6, 22)
_EVERY_SECONDS = 10.0


def milliseconds(value: float | None) -> str:
    """`0.35 s` from a second on, `35 ms` below, `-` for nothing."""
    if value is None:
        return "-"
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def row(sample: Sample, began: float) -> tuple[str, ...]:
    """The cells of one sample."""
    load = sample.load
    return (
        f"{sample.at - began:.0f} s",
        sample.view.phase or "-",
        sample.view.bottleneck or "-",
        f"{load.output_tokens_per_s:.0f}" if load else "-",
        milliseconds(load.ttft_p50_ms if load else None),
        milliseconds(load.ttft_p95_ms if load else None),
        milliseconds(load.itl_p95_ms if load else None),
        str(sample.failed),
        sample.pods,
    )


class LiveTable:
    """`with LiveTable(console) as table:`; `say` prints a line above it, `show` a sample in it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._rows: deque[tuple[str, ...]] = deque(maxlen=12)
        self._last: tuple[str, ...] | None = None
        self._last_at = 0.0
        self._last_phase = ""
        self._waiting = ""
        self._headed = False
        self.began = time.time()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def heading(self, text: str) -> None:
        """A new act."""
        self.say("")
        self._console.print(Text(text, style="bold"), soft_wrap=True)
        self._headed = False

    def say(self, text: str) -> None:
        """One line for the reader; it stays."""
        self._console.print(Text(text), soft_wrap=True)

    def waiting_for(self, text: str) -> None:
        """What the demo waits for now."""
        self._waiting = text

    def show(self, sample: Sample) -> None:
        """A sample; it becomes a row of its own every ten seconds and at every new phase."""
        due = sample.at - self._last_at >= _EVERY_SECONDS or sample.view.phase != self._last_phase
        cells = row(sample, self.began)
        if due:
            self._last_at, self._last_phase = sample.at, sample.view.phase
            self._rows.append(cells)
        if self._live:
            self._live.update(self._picture(cells, sample), refresh=True)
        elif due:
            self._line(cells)

    def _line(self, cells: tuple[str, ...]) -> None:
        if not self._headed:
            self._headed = True
            self._line(_COLUMNS)
        aligned = (
            cell.rjust(width) if name in _RIGHT or name == "time" else cell.ljust(width)
            for cell, width, name in zip(cells, _WIDTHS, _COLUMNS, strict=True)
        )
        self._console.print(Text("  ".join(aligned).rstrip()), soft_wrap=True)

    def _picture(self, cells: tuple[str, ...], sample: Sample) -> Group:
        table = Table(expand=False, header_style="bold")
        for name in _COLUMNS:
            table.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=True)
        for earlier in self._rows:
            table.add_row(*earlier, style="dim")
        table.add_row(*cells, style="bold")
        below = Text(f"{sample.act}; waiting for: {self._waiting}", style="italic")
        return Group(table, below, Text(sample.view.summary))

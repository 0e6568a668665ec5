"""`python -m tests.bench.judge`: the judge's error rates, into build/bench/judge.json and judge.md."""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.judge import recorded
from tests.bench.judge.cells import CELLS, SENSITIVITY, Cell, Results, share
from tests.bench.judge.rivals import Rival, careful_limits, fixed_thresholds, mann_whitney, simulated
from tests.bench.judge.simulate import Recording, World
from trimtab.judge.samples import history_of
from trimtab.judge.sequential import Policy, judge_history
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.verdict import Call

_SLO = Slo((LatencyTarget(Latency.TTFT, 95, 1.0), LatencyTarget(Latency.ITL, 95, 0.060)))
_FIRST = 20  # intervals drawn at once: what is decided sooner needs no more
_CPU_BAR = 5.0  # ms per judged canary and interval
_RIVALS: dict[str, Rival] = {
    "fixed thresholds": fixed_thresholds(careful_limits(simulated(World(), recordings=5))),
    "Mann-Whitney": mann_whitney,
}


@dataclass
class Measured:
    """Verdicts of the judge and of its rivals, and what the judge cost."""

    ours: Results = field(default_factory=list)
    rivals: dict[str, Results] = field(default_factory=lambda: {name: [] for name in _RIVALS})
    seconds: float = 0.0
    looks: int = 0


def measure(cell: Cell, recordings: int) -> Measured:
    """Judges so many recordings of a kind. Seeds follow from its name, so that a run can be repeated."""
    found = Measured()
    first_seed = zlib.crc32(cell.name.encode())
    for number in range(recordings):
        recording = Recording(cell.world, cell.change, first_seed + number)
        drawn = _FIRST
        history = history_of(recording.pods(drawn), interval=15.0, began=0.0, looks=drawn)
        for name, rival in _RIVALS.items():
            found.rivals[name].append(rival(history))
        call, looks = Call.UNKNOWN, 0
        while call is Call.UNKNOWN and looks < cell.world.intervals:
            if looks == drawn:
                drawn = cell.world.intervals
                history = history_of(recording.pods(drawn), interval=15.0, began=0.0, looks=drawn)
            looks += 1
            began = time.process_time()
            call = judge_history(history.until(looks), Policy(slo=_SLO)).call
            found.seconds += time.process_time() - began
            found.looks += 1
        found.ours.append((call, looks))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.judge")
    parser.add_argument("--recordings", type=int, default=500, help="of each kind")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    options = parser.parse_args(arguments)
    rows: list[dict[str, object]] = []
    table = [
        f"{options.recordings} recordings of each kind (a quarter of them in rows without a bar).",
        "",
        "| kind | Bad | within 10 | within 20 | Good | within 20 | thresholds: Bad, Good | Mann-Whitney: Bad, Good |",
        "|---|---|---|---|---|---|---|---|",
    ]
    harmful: Results = []
    seconds, looks = 0.0, 0
    for cell in (*CELLS, *SENSITIVITY):
        if options.only not in cell.name:
            continue
        found = measure(cell, options.recordings if cell.bars else max(1, options.recordings // 4))
        seconds, looks = seconds + found.seconds, looks + found.looks
        harmful += found.ours if cell.harmful and cell.bars else []
        for bar in cell.bars:
            value = bar.value(found.ours)
            rows.append(_row(f"{cell.name}: {bar.name}", value, bar.unit, bar.bar, bar.holds(value)))
        table.append(_line(cell, found))
        print(table[-1], flush=True)
    if harmful:
        value = share(Call.GOOD)(harmful)
        rows.append(_row("harmful change promoted", value, "%", 1.0, value <= 1.0))
    real, wrong = recorded.table() if recorded.there() and not options.only else ([], [])
    rows += [_row(name, value, "%", 1.0, value <= 1.0) for name, value in wrong]
    print("\n".join(real), flush=True)
    cost = 1000 * seconds / max(1, looks)
    rows.append(_row("operator CPU per judged canary and interval", cost, "ms", _CPU_BAR, cost <= _CPU_BAR))
    bars = ["", "| | value | bar | |", "|---|---|---|---|"]
    bars += [f"| {row['name']} | {row['value']} {row['unit']} | {row['bar']} | {_word(row['ok'])} |" for row in rows]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "judge.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (options.out / "judge.md").write_text("\n".join((*table, "", *real, *bars)) + "\n", encoding="utf-8")
    print("\n".join(bars))
    return 0


def _row(name: str, value: float, unit: str, bar: float, holds: bool) -> dict[str, object]:
    return {"name": name, "value": round(value, 2), "unit": unit, "bar": bar, "ok": holds}


def _line(cell: Cell, found: Measured) -> str:
    numbers = [
        share(Call.BAD)(found.ours),
        share(Call.BAD, 10)(found.ours),
        share(Call.BAD, 20)(found.ours),
        share(Call.GOOD)(found.ours),
        share(Call.GOOD, 20)(found.ours),
    ]
    rivals = [f"{share(Call.BAD)(one):.0f}, {share(Call.GOOD)(one):.0f}" for one in found.rivals.values()]
    return f"| {cell.name} | " + " | ".join([f"{number:.1f}" for number in numbers] + rivals) + " |"


def _word(holds: object) -> str:
    return "held" if holds else "missed"


if __name__ == "__main__":
    raise SystemExit(main())

"""Results of the planner's benchmarks: as JSON, and as a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

Bar: TypeAlias = float | tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Result:
    """`bar`: at most that, or between both, or None; `ok` is None without a bar."""

    name: str
    value: float
    unit: str
    bar: Bar
    ok: bool | None


def results(*rows: tuple[str, float, str, Bar]) -> list[Result]:
    return [
        Result(name, round(float(value), 4), unit, bar, _meets(float(value), bar)) for name, value, unit, bar in rows
    ]


def _meets(value: float, bar: Bar) -> bool | None:
    if bar is None:
        return None
    low, high = bar if isinstance(bar, tuple) else (float("-inf"), bar)
    return low <= value <= high


def write(found: Sequence[Result], out: Path) -> None:
    """The list as JSON, results of other parts that are already there kept, in the order of their names."""
    out.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    names = {result.name for result in found}
    rows = [row for row in old if row["name"] not in names] + [asdict(result) for result in found]
    out.write_text(json.dumps(sorted(rows, key=lambda row: row["name"]), indent=1) + "\n", encoding="utf-8")


def markdown(found: Sequence[Result]) -> str:
    lines = ["| what | value | bar | met |", "|---|---|---|---|"]
    lines += [f"| {r.name} | {r.value:.4g} {r.unit} | {_bar(r)} | {_met(r)} |" for r in found]
    return "\n".join(lines)


def _bar(result: Result) -> str:
    match result.bar:
        case None:
            return ""
        case (low, high):
            return f"{low:g} to {high:g} {result.unit}".strip()
        case most:
            return f"<= {most:g} {result.unit}".strip()


def _met(result: Result) -> str:
    return "" if result.ok is None else "yes" if result.ok else "no"

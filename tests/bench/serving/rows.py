"""A row of the table: what was measured, or why it was not, and the bar that it should hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`bar` is such as `>= 0.98`, empty where there is none; `ok` is None then. `detail` says what it is made of. Where
    this machine cannot measure it, `value` and `ok` are None, and `detail` says why."""

    name: str
    value: float | None
    unit: str
    bar: str
    ok: bool | None
    detail: str = ""

    def shown(self) -> str:
        return "not measured" if self.value is None else f"{self.value:.4g} {self.unit}".rstrip()


def at_least(name: str, value: float, bar: float, *, unit: str = "", detail: str = "") -> Row:
    return Row(name=name, value=round(value, 4), unit=unit, bar=f">= {bar:g}", ok=value >= bar, detail=detail)


def at_most(name: str, value: float, bar: float, *, unit: str = "", detail: str = "") -> Row:
    return Row(name=name, value=round(value, 4), unit=unit, bar=f"<= {bar:g}", ok=value <= bar, detail=detail)


def told(name: str, value: float, *, unit: str = "", detail: str = "") -> Row:
    return Row(name=name, value=round(value, 4), unit=unit, bar="", ok=None, detail=detail)


def missing(row: Row, why: str) -> Row:
    """The same row, open."""
    return replace(row, value=None, ok=None, detail=why)


def markdown(rows: Sequence[Row]) -> str:
    met = {None: "", True: "held", False: "missed"}
    lines = ["| what | value | bar | | |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.shown()} | {row.bar} | {met[row.ok]} | {row.detail} |".replace("  ", " ") for row in rows
    ]
    return "\n".join(lines)


def keep(rows: Sequence[Row], out: Path) -> None:
    """The list as JSON; rows of an earlier run that this one did not measure stay."""
    out.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    names = {row.name for row in rows}
    kept = [row for row in old if row["name"] not in names] + [asdict(row) for row in rows]
    out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")

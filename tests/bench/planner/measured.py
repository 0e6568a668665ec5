"""The measurement files as arrays beside the serving points that their rows describe."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.bench.planner.points import Case, case_of
from trimtab.plan.performance.batch import Batch, batch_of
from trimtab.plan.performance.closed_loop import closed_loop, room
from trimtab.plan.performance.coefficients import Coefficients
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.step import Steps


@dataclass(frozen=True)
class Measured:
    """Rows with their cases; tpot and ttft in milliseconds, `rate` output tokens per second and GPU."""

    rows: Sequence[Mapping[str, str]]
    cases: Sequence[Case]
    batch: Batch
    most: Floats
    tpot: Floats
    ttft: Floats
    rate: Floats
    group: NDArray[np.str_]  # model and GPU

    def predict(self, coefficients: Coefficients) -> tuple[Floats, Floats]:
        """(tpot, ttft) of all rows."""
        loop = closed_loop(Steps(self.batch, coefficients), self.batch.clients, self.most)
        return loop.tpot, loop.ttft

    def part(self, keep: NDArray[np.bool_]) -> Measured:
        """The rows that are kept."""
        return measured([row for row, kept in zip(self.rows, keep, strict=True) if kept])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def serving(path: Path) -> Measured:
    """The rows of serving_measurements.csv that its notes say to use."""
    rows = read_rows(path)
    return measured([row for row in rows if row["quality"] == "clean" and row["is_latest"] == "True"])


def measured(rows: Sequence[Mapping[str, str]]) -> Measured:
    cases = [case_of(row) for row in rows]
    batch = batch_of([case.point for case in cases], [case.traffic for case in cases])
    return Measured(
        rows=rows,
        cases=cases,
        batch=batch,
        most=room(batch).admitted,
        tpot=np.array([float(row["tpot_mean_ms"]) for row in rows]),
        ttft=np.array([float(row["ttft_mean_ms"]) for row in rows]),
        rate=np.array([float(row["derived_out_tok_s_per_gpu"]) for row in rows]),
        group=np.array([f"{row['model']}|{row['gpu']}" for row in rows]),
    )

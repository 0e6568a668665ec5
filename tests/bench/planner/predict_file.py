"""Answers a file of configurations that nobody here has measured. Reads configuration columns only."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.planner.measured import read_rows
from tests.bench.planner.points import case_of, number
from trimtab.plan.performance.coefficients import Coefficients
from trimtab.plan.performance.forecast import Forecast, forecast

COLUMNS = ("row_id", "ttft_ms", "tpot_ms", "ttft_upper_ms", "tpot_upper_ms", "out_tok_s_per_gpu", "reason")


def predict_file(source: Path, target: Path, coefficients: Coefficients | None = None) -> tuple[int, int]:
    """Writes one row per row; returns (answered, not answered). A row without an answer has a reason."""
    configs = _configs(source)
    answers = [_answer(index, row, configs, coefficients) for index, row in enumerate(read_rows(source))]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(answers)
    missing = sum(1 for answer in answers if answer["reason"])
    return len(answers) - missing, missing


def _configs(source: Path) -> Mapping[str, Path]:
    """`configs/<publisher>__<model>.json` or `configs/<model>.json` beside the file, by model id in lower case."""
    folder = source.parent / "configs"
    return {path.stem.replace("__", "/").lower(): path for path in sorted(folder.glob("*.json"))}


def _answer(
    index: int, row: Mapping[str, str], configs: Mapping[str, Path], coefficients: Coefficients | None
) -> dict[str, str]:
    name = row.get("row_id") or str(index)
    try:
        case = case_of(row, _config_of(row, configs))
        found = forecast([case.point], [case.traffic], coefficients=coefficients)
    except (ValueError, KeyError, TypeError, OSError, ArithmeticError) as problem:
        return dict.fromkeys(COLUMNS, "") | {"row_id": name, "reason": f"{problem}" or type(problem).__name__}
    # Per GPU as the file counts GPUs, so that its rows compare with each other.
    gpus = number(row, "num_gpus", float(found.gpus[0]))
    return {"row_id": name} | _figures(found, gpus) | {"reason": ""}


def _config_of(row: Mapping[str, str], configs: Mapping[str, Path]) -> Mapping[str, object] | None:
    """The model's config.json: named in a column, or lying beside the file; None where there is none."""
    named = (row.get("config_json") or row.get("config") or "").strip()
    if named.startswith("{"):
        return dict(json.loads(named))
    model = (row.get("model") or "").lower()
    path = Path(named) if named else configs.get(model) or configs.get(model.rsplit("/", 1)[-1])
    if path is None or not path.is_file():
        return None
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _figures(found: Forecast, gpus: float) -> dict[str, str]:
    values: Sequence[tuple[str, float]] = (
        ("ttft_ms", found.ttft.mean[0]),
        ("tpot_ms", found.tpot[0]),
        ("ttft_upper_ms", found.ttft_range.upper[0]),
        ("tpot_upper_ms", found.tpot_range.upper[0]),
        ("out_tok_s_per_gpu", found.output_tokens[0] / gpus),
    )
    return {name: f"{value:.4f}" for name, value in values}

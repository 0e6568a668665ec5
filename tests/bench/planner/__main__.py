"""python -m tests.bench.planner accuracy | speed | predict | fit | condense"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench.planner.predict_file import predict_file
from tests.bench.planner.report import Result, markdown, write
from tests.bench.planner.speed import speed

_ROOT = Path(__file__).resolve().parents[3]
_SHIPPED = _ROOT / "operator/trimtab/plan/performance/data"
_SERVING, _STATIC = "serving_measurements.csv", "static_batch_measurements.csv"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    match options.command:
        case "accuracy":
            return _report(_accuracy(options.data), options.out)
        case "speed":
            return _report(speed(), options.out)
        case "predict":
            answered, missing = predict_file(options.measurements, options.out)
            print(f"{answered} rows answered, {missing} without an answer (see the column reason).")
        case "fit":
            _fit(_present(options.data))
        case "condense":
            from tests.bench.planner.condense import condense  # pyarrow, of the extra `bench`

            size = condense(options.kernels, _SHIPPED / "kernels.npz")
            print(f"kernels.npz: {size} bytes")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.planner", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    data = _ROOT.parent / "shared" / "data"
    for name, text in (("accuracy", "errors on left-out groups"), ("fit", "write coefficients.json")):
        own = commands.add_parser(name, help=text)
        own.add_argument("--data", type=Path, default=data, help="folder of the measurement files")
        if name == "accuracy":
            own.add_argument("--out", type=Path, default=_ROOT / "build/bench/planner.json")
    own = commands.add_parser("speed", help="times and memory")
    own.add_argument("--out", type=Path, default=_ROOT / "build/bench/planner.json")
    own = commands.add_parser("predict", help="answer a file of configurations")
    own.add_argument("--measurements", type=Path, required=True)
    own.add_argument("--out", type=Path, required=True)
    own = commands.add_parser("condense", help="write kernels.npz from the kernel measurements")
    own.add_argument("--kernels", type=Path, default=data / "kernels")
    return parser


def _present(data: Path) -> Path:
    if not (data / _SERVING).is_file():
        sys.exit(f"There is no {_SERVING} in {data}: give the folder of the measurements with --data.")
    return data


def _accuracy(data: Path) -> list[Result]:
    # scipy, of the extra `bench`, which `predict` does without.
    from tests.bench.planner.accuracy import accuracy
    from tests.bench.planner.fit import coefficients_of, fit
    from tests.bench.planner.measured import read_rows, serving
    from tests.bench.planner.static import static_accuracy

    measured = serving(_present(data) / _SERVING)
    found = accuracy(measured, lambda text: print(text, file=sys.stderr))
    return found + static_accuracy(read_rows(data / _STATIC), coefficients_of(fit(measured)))


def _fit(data: Path) -> None:
    """On all groups; intervals from the errors on each group of a fit on the others."""
    import numpy as np

    from tests.bench.planner.accuracy import inner_spreads
    from tests.bench.planner.fit import coefficients_of, fit
    from tests.bench.planner.measured import read_rows, serving
    from tests.bench.planner.static import far_spreads, fit_static, static

    measured = serving(data / _SERVING)
    z = fit(measured)
    batches = static(read_rows(data / _STATIC))
    fitted = fit_static(batches, coefficients_of(z), np.ones(len(batches.measured), bool))
    fitted = fitted.with_spreads(inner_spreads(measured, z) | far_spreads(batches, coefficients_of(z)))
    text = json.dumps(_rounded(fitted.as_json()), indent=1, sort_keys=True)
    (_SHIPPED / "coefficients.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def _rounded(value: object) -> object:
    """Four significant digits: what the data supports."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _report(found: list[Result], out: Path) -> int:
    write(found, out)
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""python -m tests.bench.engine [run | score] [--suite test | development]

`run` measures and scores; `score` reads what an earlier run measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.bench.engine.cases import SUITES, Suite
from tests.bench.engine.measure import Measured, by_case, measure, model, processor
from tests.bench.engine.predict import questions
from tests.bench.engine.report import table
from tests.bench.engine.score import scores, summary
from tests.bench.planner.report import markdown, write
from tests.vllm.server import ROOT
from trimtab.catalogue.gpus import Processor


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engine", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "score"), default="run")
    parser.add_argument("--suite", choices=sorted(SUITES), default="test")
    parser.add_argument("--lock", type=Path, help="a file to lock while an engine runs, where several share a machine")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench/planner.json")
    given = parser.parse_args(arguments)
    suite = SUITES[given.suite]
    kept = ROOT / "build" / "bench" / f"engine-{given.suite}.json"
    if given.command == "run":
        _run(suite, given.lock, kept)
    found, core = _read(kept)
    points, traffic = questions(suite, model(suite), core)
    scored = scores(suite, points, traffic, by_case(found))
    print(table(suite, scored, by_case(found), core))
    result = summary(scored)
    if given.suite == "test":
        write(result, given.out)
    print(markdown(result))
    return 0


def _run(suite: Suite, lock: Path | None, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    core = processor()
    _tell(f"one core: {core.bandwidth / 1e9:.1f} GB/s, {core.bf16_flops / 1e9:.0f} GFLOP/s in bf16")
    found = list(measure(suite, lock, _tell))
    data = {"processor": asdict(core), "measured": [asdict(one) for one in found]}
    kept.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _read(kept: Path) -> tuple[list[Measured], Processor]:
    if not kept.is_file():
        sys.exit(f"There is no {kept.name} in {kept.parent}: run the benchmark first.")
    data = json.loads(kept.read_text(encoding="utf-8"))
    return [Measured(**one) for one in data["measured"]], Processor(**data["processor"])


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

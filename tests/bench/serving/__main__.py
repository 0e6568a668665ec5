"""python -m tests.bench.serving [PART ...] [--out build/bench/engine.json]

Parts: layers, cache, meanings, again, vllm, pytorch; all without a name, about twenty minutes. Rows of parts that did
not run stay as they were in the file.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.serving import again, beside_transformers, beside_vllm, cache, layers, meanings
from tests.bench.serving.rows import Row, markdown

PARTS: dict[str, Callable[[Callable[[str], None]], Iterator[Row]]] = {
    "layers": layers.rows,
    "cache": cache.rows,
    "meanings": meanings.rows,
    "again": again.rows,
    "vllm": beside_vllm.rows,
    "pytorch": beside_transformers.rows,
}


def main() -> int:
    """1 where a row misses its bar, or where a part could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--out", type=Path, default=Path("build/bench/engine.json"))
    args = parser.parse_args()
    # So that servers are ended, too, when somebody ends the benchmark.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began, broken = time.monotonic(), []

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s, load {os.getloadavg()[0]:.1f}] {text}", flush=True)

    found: list[Row] = []
    for name in args.parts or PARTS:
        try:
            for row in PARTS[name](tell):
                tell(f"{row.name}: {row.value:g} {row.unit} ({row.bar})")
                found.append(row)
                write(found, args.out)
        except Exception as error:  # the other parts are measured; this one is told at the end
            logging.exception("%s could not be measured", name)
            broken.append(f"{name}: {type(error).__name__}: {error}")
    print(markdown(found))
    print(*broken, sep="\n", file=sys.stderr)
    return int(bool(broken) or any(row.ok is False for row in found))


def write(found: Sequence[Row], out: Path) -> None:
    """The list as JSON; rows of an earlier run that this one did not measure stay."""
    out.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    names = {row.name for row in found}
    rows = [row for row in old if row["name"] not in names] + [asdict(row) for row in found]
    out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

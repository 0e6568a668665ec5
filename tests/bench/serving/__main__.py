"""python -m tests.bench.serving [PART ...] [--out build/bench/engine.json]

Parts: layers, cache, meanings, again, vllm, driven, overload, watched, killed, pytorch, gpu; an hour for all of
them. Rows of parts that did not run stay as they were in the file.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.serving import (
    again,
    beside_transformers,
    beside_vllm,
    cache,
    driven,
    killed,
    layers,
    meanings,
    on_gpu,
    overload,
    watched,
)
from tests.bench.serving.rows import Row, keep, markdown

PARTS: dict[str, Callable[[Callable[[str], None]], Iterator[Row]]] = {
    "layers": layers.rows,
    "cache": cache.rows,
    "meanings": meanings.rows,
    "again": again.rows,
    "vllm": beside_vllm.rows,
    "driven": driven.rows,
    "overload": overload.rows,
    "watched": watched.rows,
    "killed": killed.rows,
    "pytorch": beside_transformers.rows,
    "gpu": on_gpu.rows,
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
                tell(f"{row.name}: {row.shown()} ({row.bar})")
                found.append(row)
                keep(found, args.out)
        except Exception as error:  # the other parts are measured; this one is told at the end
            logging.exception("%s could not be measured", name)
            broken.append(f"{name}: {type(error).__name__}: {error}")
    print(markdown(found))
    print(*broken, sep="\n", file=sys.stderr)
    return int(bool(broken) or any(row.ok is False for row in found))


if __name__ == "__main__":
    sys.exit(main())

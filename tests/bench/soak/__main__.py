"""python -m tests.bench.soak [--minutes 60] [--engine vllm|emulated] [--out build/soak]

An hour of real vLLM behind our server, everything on: monitor, traces, alerts, tuner, admission, semantic cache. Of the
emulated engine, which costs almost no work, `--minutes 3` is the short form that is a test.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from tests.bench.serving.rows import keep, markdown
from tests.bench.serving.servers import emulated, ours, served
from tests.bench.serving.traffic import Running
from tests.bench.soak.fit import LONG, rows
from tests.bench.soak.picture import draw
from tests.bench.soak.run import Plan, soak
from tests.models.make_embedder import write
from tests.unit.engine.sinks import Sink, sink


def everything(collector: Sink, folder: Path) -> dict[str, object]:
    """The configuration with every layer on. What is kept by design is full by the end of the warm-up, the
    monitor's seconds after five minutes."""
    return {
        "monitor.history_minutes": 1,
        "tracing.endpoint": f"{collector.url}/v1/traces",
        "alerts.enabled": True,
        "tuner.enabled": True,
        "tuner.itl_p95_seconds": 5,
        "limits.max_queued_requests": 512,
        "server.request_timeout_seconds": 600,
        "semantic_cache.enabled": True,
        "semantic_cache.embedding_model": str(write(folder / "embedder")),
        "semantic_cache.largest_entries": 200,
    }


def engine(name: str, fields: dict[str, object]) -> AbstractContextManager[Running]:
    """The server, not started yet."""
    if name == "emulated":
        return emulated("soak", **fields)
    told = {way.upper().replace(".", "__"): json.dumps(value).strip('"') for way, value in fields.items()}
    return served(ours("soak", **told))


def main() -> int:
    """1 where a row misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--engine", choices=["vllm", "emulated"], default="vllm")
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    args = parser.parse_args()
    # So that the server is ended, too, when somebody ends the soak.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", flush=True)

    args.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(seconds=60 * args.minutes, warm_up=60 * max(1.0, args.minutes / 6))
    with sink() as collector, engine(args.engine, everything(collector, args.out)) as server:
        run = soak(server, plan, engine=args.engine, collector=collector, tell=tell)
    found = rows(run)
    document = {"rows": [asdict(row) for row in found], **asdict(run)}
    (args.out / "soak.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draw(run, args.out / "soak.png")
    if run.seconds >= LONG:
        keep(found, Path("build/bench/engine.json"))
    print(markdown(found))
    return int(any(row.ok is False for row in found))


if __name__ == "__main__":
    sys.exit(main())

"""The engine is killed while it serves: how long until the next one answers, and whether /health tells."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.serving.rows import Row, at_least, at_most
from tests.bench.serving.servers import ours, served
from tests.bench.serving.traffic import Running, run

MOST_SECONDS = 300.0


def rows(tell: Callable[[str], None]) -> Iterator[Row]:
    """A server over vLLM has PyTorch to fall back on."""
    with served(ours("killed")) as server:
        run(server, seconds=4.0, settle=0.0)
        yield from _killed(server, tell)


def _load(server: Running) -> None:
    # Nobody may be there at its end to tell what the server did; nothing is read from it.
    with contextlib.suppress(OSError):
        run(server, clients=4, seconds=6.0, settle=0.0)


def _killed(server: Running, tell: Callable[[str], None]) -> Iterator[Row]:
    load = threading.Thread(target=_load, args=(server,))
    load.start()
    time.sleep(3.0)
    process = server.process.pid
    (engine,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    os.kill(int(engine), signal.SIGKILL)
    began = time.monotonic()
    first: dict[str, Any] = {}
    while time.monotonic() - began < MOST_SECONDS:
        try:
            first = first or json.loads(server.get("/health", seconds=5))
            server.post("/v1/completions", {"prompt": "Once", "max_tokens": 1}, seconds=30)
            break
        except (OSError, ValueError):
            time.sleep(0.1)
    seconds = time.monotonic() - began
    load.join()
    tell(f"the next engine answered after {seconds:.1f} s; the first /health was {first}")
    name = str(first.get("engine", "nobody"))
    yield at_most("engine killed while serving: next engine answers in", seconds, 60.0, unit="s", detail=name)
    told_at_once = first.get("status") == "degraded" and "fallback_engine" in first.get("reasons", {})
    yield at_least("engine killed: the first answer of /health says degraded", float(told_at_once), 1.0)

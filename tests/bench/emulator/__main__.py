"""python -m tests.bench.emulator [--rounds 5]

What running sequences together brings on real vLLM and on the emulator that stands for it in tests: throughput of 16
at a time over one at a time, the servers taking turns; the median of the rounds and their spread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.contract.loading import NARROW, SHORT, WIDE, Engine, load
from tests.testkit.running import EmulatorServer
from tests.vllm.server import VllmServer

MOST_APART = 3.0  # the emulator's gain may be that many times the engine's, or its part


def main() -> int:
    """1 where the emulator's gain is too far from the engine's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as logs:
        gains = {name: gain(name, Path(logs), rounds) for name in ("vllm", "emulator")}
    apart = statistics.median(gains["emulator"]) / statistics.median(gains["vllm"])
    print(f"emulator over vLLM: {apart:.2f} (bar: {1 / MOST_APART:.2f} to {MOST_APART:.2f})")
    return 0 if 1 / MOST_APART <= apart <= MOST_APART else 1


def gain(name: str, logs: Path, rounds: int) -> list[float]:
    """Throughput of 16 sequences at a time over that of one, for each round."""
    with ExitStack() as stack:
        narrow, wide = (stack.enter_context(server(name, flags, logs)) for flags in (NARROW, WIDE))
        found = [_throughput(wide, 80) / _throughput(narrow, 24) for _ in range(rounds)]
    print(f"{name}: {statistics.median(found):.2f} times ({min(found):.2f} to {max(found):.2f})", flush=True)
    return found


def server(name: str, flags: tuple[str, ...], logs: Path) -> VllmServer | EmulatorServer:
    log = logs / f"{name}-{flags[-1]}.log"
    return VllmServer(*flags, log=log) if name == "vllm" else EmulatorServer(*flags, log=log)


def _throughput(engine: Engine, requests: int) -> float:
    return load(engine, SHORT, requests=requests, clients=requests).tokens_per_second


if __name__ == "__main__":
    raise SystemExit(main())

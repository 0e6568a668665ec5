"""Starts one real vLLM on 127.0.0.1 and stops it again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.models.make_llama import cache_root, cached
from tests.testkit.client import MODEL_NAME
from tests.testkit.ports import free_port
from tests.testkit.process import ServerProcess
from tests.vllm import venv

ROOT = Path(__file__).resolve().parents[2]

# As in the engine image for the CPU, with one thread and a KV cache of a fixed size: vLLM otherwise sizes itself by the
# whole machine.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_USE_AOT_COMPILE": "0",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "HF_HUB_OFFLINE": "1",
}
ARGUMENTS = ("--kv-cache-memory-bytes", "256M")


def command(model: Path, port: int, arguments: Sequence[str]) -> list[str]:
    """`vllm serve` as the engine image runs it, but on loopback only."""
    start = [str(venv.python()), "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--host", "127.0.0.1"]
    return [*start, "--port", str(port), "--served-model-name", MODEL_NAME, *ARGUMENTS, *arguments]


def trimtab_command(model: Path, port: int, arguments: Sequence[str]) -> list[str]:
    """`trimtab-engine serve`; `arguments` are vLLM's own."""
    return serve_command(venv.python(), model, port, arguments)


def chain_command(model: Path, port: int, arguments: Sequence[str]) -> list[str]:
    """The same, where all four engines are installed."""
    return serve_command(venv.fallback_python(), model, port, arguments)


def serve_command(python: Path, model: Path, port: int, arguments: Sequence[str]) -> list[str]:
    """`trimtab-engine serve` in the environment of that Python."""
    start = [str(python), "-m", "trimtab_engine.main", "serve", "--model", str(model), "--host", "127.0.0.1"]
    return [*start, "--port", str(port), "--", *ARGUMENTS, *arguments]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    caches = cache_root() / f"engine-compiled-{venv.key()}"
    own = {"VLLM_CACHE_ROOT": str(caches / "vllm"), "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor")}
    return {**os.environ, **ENVIRONMENT, **own, **(extra or {})}


class VllmServer(ServerProcess):
    """A running `vllm serve`; use it with `with`. Later arguments override `ARGUMENTS`. It serves the random
    model of `size`, or the one in the folder `model`.

    >>> with VllmServer("--enforce-eager", log=Path("build/vllm.log")) as server:
    ...     server.get("/metrics")
    """

    PROGRAM, START_SECONDS, STOP_SECONDS = "vLLM", 900.0, 30.0

    def __init__(
        self,
        *arguments: str,
        log: Path,
        size: str = "m75",
        env: Mapping[str, str] | None = None,
        model: Path | None = None,
        start: Callable[[Path, int, Sequence[str]], list[str]] = command,
    ) -> None:
        self.arguments = arguments
        port = free_port()
        super().__init__(start(model or cached(size), port, arguments), port=port, log=log, env=environment(env))

"""The servers that are measured: `vllm serve`, `trimtab-engine serve` and `transformers serve`, on loopback."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.models.make_llama import cache_root, cached
from tests.testkit.client import MODEL_NAME
from tests.testkit.running import OurServer
from tests.vllm import venv
from tests.vllm.server import ROOT, VllmServer, chain_command, trimtab_command

TOKEN = "a-token-for-the-bench"
CAPACITY = 32
START_SECONDS = 900.0
FLAGS = ("--enforce-eager", "--max-num-seqs", str(CAPACITY), "--max-num-batched-tokens", "1024")
LOGS = ROOT / "build" / "bench" / "serving"


def token_file() -> Path:
    """The token that opens the endpoint for limits."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / "token"
    path.write_text(TOKEN)
    return path


@contextmanager
def served(server: VllmServer) -> Iterator[VllmServer]:
    """Starts it and ends it; on a busy machine a start takes minutes."""
    server.start()
    try:
        server.wait_until_ready(START_SECONDS)
        yield server
    finally:
        server.stop()


def plain(name: str = "plain", flags: Sequence[str] = FLAGS) -> VllmServer:
    """vLLM's own server."""
    return VllmServer(*flags, log=LOGS / f"{name}.log")


def ours(name: str = "ours", flags: Sequence[str] = FLAGS, **fields: str) -> VllmServer:
    """Our server over vLLM; `fields` are fields of its configuration as their variables are called."""
    return VllmServer(*flags, log=LOGS / f"{name}.log", env=environment(fields), start=trimtab_command)


def emulated(name: str = "emulated", **fields: object) -> OurServer:
    """Our server over the emulated engine, which takes the times of vLLM on one core and none of its work."""
    own = {"server.token_file": str(token_file()), "engines.pytorch.running_requests": CAPACITY, **fields}
    return OurServer(folder=LOGS / name, fields=own)


def pytorch(name: str = "pytorch", **fields: str) -> VllmServer:
    """Our server over PyTorch."""
    fields = {"ENGINES__PREFERENCE": "[pytorch]", **fields}
    return VllmServer(log=LOGS / f"{name}.log", env=environment(fields), start=_without_flags)


def onnx(name: str = "onnx", **fields: str) -> VllmServer:
    """Our server over ONNX Runtime, which is in the environment with all engines."""
    folder = str(cache_root() / "engine-converted")
    fields = {"ENGINES__PREFERENCE": "[onnx]", "ENGINES__ONNX__CACHE_FOLDER": folder, **fields}
    return VllmServer(log=LOGS / f"{name}.log", env=environment(fields), start=chain_command)


def transformers(name: str = "transformers") -> VllmServer:
    """The server that comes with transformers, with its continuous batching, as many tokens in a step as ours."""
    server = VllmServer(log=LOGS / f"{name}.log", env={"PYTHONPATH": str(_accelerate())}, start=_transformers_command)
    server.model = str(cached("m75"))  # it answers to the name that it was started with alone
    return server


def _accelerate() -> Path:
    """What the server of transformers needs and vLLM does not, in a folder of its own."""
    folder, lock = LOGS / "packages", Path(__file__).with_name("requirements.lock")
    install = [venv.uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target", str(folder)]
    subprocess.run([*install, "--python", str(venv.python()), "-r", str(lock)], check=True)
    return folder


def environment(fields: dict[str, str]) -> dict[str, str]:
    """The variables of our server with these fields of its configuration."""
    own = {
        "SERVED_MODEL_NAME": MODEL_NAME,
        "SERVER__TOKEN_FILE": str(token_file()),
        **fields,
    }
    return {"PYTHONPATH": str(ROOT / "engine_image"), **{f"TRIMTAB_ENGINE_{name}": own[name] for name in own}}


def _without_flags(model: Path, port: int, _arguments: Sequence[str]) -> list[str]:
    return trimtab_command(model, port, ())[: -len(("--", "--kv-cache-memory-bytes", "256M"))]


def _transformers_command(model: Path, port: int, _arguments: Sequence[str]) -> list[str]:
    program = str(venv.ensure() / "bin" / "transformers")
    start = [str(venv.python()), program, "serve", str(model), "--continuous-batching", "--device", "cpu"]
    sizes = ["--cb-max-batch-tokens", "512", "--cb-num-blocks", "512", "--cb-block-size", "32"]
    return [*start, *sizes, "--host", "127.0.0.1", "--port", str(port), "--dtype", "auto"]

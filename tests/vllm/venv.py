"""The virtual environment that real vLLM runs in outside of the cluster.

It is made once from `requirements-engine-cpu.lock` and kept in the cache by the hash of everything that goes into
it, so several checkouts share it. `python -m tests.vllm.venv` makes it if needed and prints its folder.

DeepSpeed and ONNX Runtime are in a small second one on top of it, made from `requirements-engine-fallback.lock` for the
longer tests (140 MB, seconds), and what quantizes in a third one, from `requirements-engine-quantize.lock` (230 MB).

Needs gcc and binutils (see engine_image/cuda_standins.py) and the library libnuma1.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.models.make_llama import cache_root

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements-engine-cpu.lock"
FALLBACK_LOCK = ROOT / "requirements-engine-fallback.lock"
QUANTIZE_LOCK = ROOT / "requirements-engine-quantize.lock"
FINISHERS = (ROOT / "engine_image" / "cuda_standins.py", ROOT / "engine_image" / "vllm_metadata.py")
PYTHON = "3.11"


def key() -> str:
    """Hash of the lock file and of the programs that finish the installation."""
    return _hash(LOCK, *FINISHERS)


def _hash(*paths: Path) -> str:
    digest = hashlib.sha256(PYTHON.encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def uv() -> str:
    """uv from the path, or the one that `make setup` keeps in the cache where the machine has none."""
    return shutil.which("uv") or str(cache_root() / "uv" / "bin" / "uv")


def _make(folder: Path) -> None:
    """The steps; `folder` gets its final name at once because scripts in it hold absolute paths."""
    python = folder / "bin" / "python"
    subprocess.run([uv(), "venv", "--quiet", "--python", PYTHON, str(folder)], check=True)
    install = [uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", str(python)]
    subprocess.run([*install, "-r", str(LOCK)], check=True)
    for program in FINISHERS:
        # The descriptor itself: under pytest's capsys, sys.stderr is no file.
        subprocess.run([str(python), str(program)], check=True, stdout=2)
    subprocess.run([str(python), "-c", "import torch"], check=True)
    # Once, here: servers that start side by side would each compile every module that they import.
    packages = folder / "lib" / f"python{PYTHON}" / "site-packages"
    subprocess.run([str(python), "-m", "compileall", "-qq", "-j", "0", str(packages)], check=False, stdout=2)


def _make_fallback(folder: Path) -> None:
    _on_top(folder, FALLBACK_LOCK, "onnxruntime_genai")


def _make_quantize(folder: Path) -> None:
    _on_top(folder, QUANTIZE_LOCK, "auto_round")


def _on_top(folder: Path, lock: Path, module: str) -> None:
    """The packages of the engine's environment are found by a line in a `.pth` file, so none is there twice."""
    base = ensure()
    subprocess.run([uv(), "venv", "--quiet", "--python", str(base / "bin" / "python"), str(folder)], check=True)
    packages = Path("lib") / f"python{PYTHON}" / "site-packages"
    (folder / packages / "engine.pth").write_text(f"{base / packages}\n")
    install = [uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--no-build-isolation"]
    # DeepSpeed compiles its kernels at its installation unless it is told not to.
    own = {**os.environ, "DS_BUILD_OPS": "0", "DS_ACCELERATOR": "cpu"}
    python = folder / "bin" / "python"
    subprocess.run([*install, "--python", str(python), "-r", str(lock)], env=own, check=True)
    subprocess.run([str(python), "-c", f"import {module}"], check=True)


def ensure() -> Path:
    """The folder of the environment, made on the first call; callers that come meanwhile wait for it."""
    return _ensure(cache_root() / f"engine-venv-{key()}", _make)


def ensure_fallback() -> Path:
    """The folder of the environment that has DeepSpeed and ONNX Runtime, too."""
    return _ensure(cache_root() / f"engine-fallback-venv-{_hash(LOCK, FALLBACK_LOCK, *FINISHERS)}", _make_fallback)


def ensure_quantize() -> Path:
    """The folder of the environment that quantizes."""
    return _ensure(cache_root() / f"engine-quantize-venv-{_hash(LOCK, QUANTIZE_LOCK, *FINISHERS)}", _make_quantize)


def _ensure(folder: Path, make: Callable[[Path], None]) -> Path:
    complete = folder / "complete"
    if complete.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # released when the process ends, however it ends
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted attempt left
            make(folder)
            complete.touch()
    return folder


def python() -> Path:
    """The interpreter that has vLLM."""
    return ensure() / "bin" / "python"


def fallback_python() -> Path:
    """The interpreter that has all engines."""
    return ensure_fallback() / "bin" / "python"


def quantize_python() -> Path:
    """The interpreter that quantizes, and asks vLLM what came of it."""
    return ensure_quantize() / "bin" / "python"


def main() -> int:
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        print("gcc and binutils are needed to make the engine's environment", file=sys.stderr)
        return 1
    os.umask(0o022)
    print(ensure())
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The virtual environment that real vLLM runs in outside of the cluster.

It is made once from `requirements-engine-cpu.lock` and kept in the cache by the hash of everything that goes into
it, so several checkouts share it. `python -m tests.vllm.venv` makes it if needed and prints its folder.

Needs gcc and binutils (see engine_image/cuda_standins.py) and the library libnuma1.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.models.make_llama import cache_root

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements-engine-cpu.lock"
FINISHERS = (ROOT / "engine_image" / "cuda_standins.py", ROOT / "engine_image" / "vllm_metadata.py")
PYTHON = "3.11"


def key() -> str:
    """Hash of the lock file and of the programs that finish the installation."""
    digest = hashlib.sha256(PYTHON.encode())
    for path in (LOCK, *FINISHERS):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _uv() -> str:
    """uv from the path, or the one that `make setup` keeps in the cache where the machine has none."""
    return shutil.which("uv") or str(cache_root() / "uv" / "bin" / "uv")


def _make(folder: Path) -> None:
    """The steps; `folder` gets its final name at once because scripts in it hold absolute paths."""
    python = folder / "bin" / "python"
    subprocess.run([_uv(), "venv", "--quiet", "--python", PYTHON, str(folder)], check=True)
    install = [_uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", str(python)]
    subprocess.run([*install, "-r", str(LOCK)], check=True)
    for program in FINISHERS:
        # The descriptor itself: under pytest's capsys, sys.stderr is no file.
        subprocess.run([str(python), str(program)], check=True, stdout=2)
    subprocess.run([str(python), "-c", "import torch"], check=True)


def ensure() -> Path:
    """The folder of the environment, made on the first call; callers that come meanwhile wait for it."""
    folder = cache_root() / f"engine-venv-{key()}"
    complete = folder / "complete"
    if complete.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # released when the process ends, however it ends
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted attempt left
            _make(folder)
            complete.touch()
    return folder


def python() -> Path:
    """The interpreter that has vLLM."""
    return ensure() / "bin" / "python"


def main() -> int:
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        print("gcc and binutils are needed to make the engine's environment", file=sys.stderr)
        return 1
    os.umask(0o022)
    print(ensure())
    return 0


if __name__ == "__main__":
    sys.exit(main())

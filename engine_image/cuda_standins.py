"""Lets the CUDA build of torch run where there is no GPU, without 2.6 GB of CUDA libraries.

That build's libraries name cuBLAS, cuDNN, NCCL and others as needed, so the loader refuses to start without them,
although nothing on a CPU calls them. For every such library that is absent, this program compiles one of the same
name which defines the functions torch's libraries refer to; each returns 100, `cudaErrorNoDevice`. Vendors ship
such libraries ("stubs") for linking; here they serve for loading. What torch needs is read from its own files, so no
list has to be kept by hand.

Needs gcc and binutils. Run it with the Python that has torch installed:

    python cuda_standins.py
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

NEEDED = re.compile(r"\(NEEDED\).*\[(?P<name>[^]]+)\]")
CUDA = re.compile(r"lib(cu(?!da\.)|nccl|nvrtc|nvshmem|nvJit)")
# torch/lib/libtorch_cuda_linalg.so is opened only for linear algebra on a GPU.
NEVER_LOADED = {"libtorch_cuda_linalg.so"}
# The functions of libraries that put no version on their symbols are told by their first letters.
PREFIXES = {"libnccl": "nccl", "libcurand": "curand", "libcusparseLt": "cusparseLt"}
VERSIONS = {"libnvshmem_host.so.3": "NVSHMEM"}
NO_DEVICE = 100


@dataclass(kw_only=True)
class Links:
    """What a set of shared libraries asks for: library names, and symbols by version ("" for none)."""

    needed: set[str] = field(default_factory=set)
    undefined: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read_links(libraries: list[Path]) -> Links:
    links = Links()
    for library in libraries:
        links.needed.update(found["name"] for found in NEEDED.finditer(_output("readelf", "-d", library)))
        for line in _output("nm", "-D", "--undefined-only", library).splitlines():
            kind, _, symbol = line.strip().partition(" ")
            if kind == "U":
                name, _, version = symbol.partition("@")
                links.undefined[version].add(name)
    return links


def symbols_of(library: str, links: Links) -> tuple[str, set[str]]:
    """The version tag that `library` carries ("" for none) and the symbols of it that are asked for."""
    for stem, prefix in PREFIXES.items():
        if library.startswith(stem + "."):
            return "", {name for name in links.undefined[""] if name.startswith(prefix)}
    version = VERSIONS.get(library, library)
    return version, links.undefined[version]


def compile_standin(library: str, symbols: set[str], *, version: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, exports = Path(scratch, "standin.c"), Path(scratch, "exports")
        source.write_text("".join(f"int {name}(void) {{ return {NO_DEVICE}; }}\n" for name in sorted(symbols)))
        command = ["gcc", "-shared", "-nostdlib", "-fPIC", "-O1", "-o", str(folder / library), f"-Wl,-soname,{library}"]
        if version:
            exports.write_text(f"{version} {{ global: *; }};\n")
            command.append(f"-Wl,--version-script={exports}")
        subprocess.run([*command, str(source)], check=True)


def make_standins(site_packages: Path) -> list[str]:
    """Compiles what is absent beside torch's own libraries and returns the names."""
    torch = site_packages / "torch" / "lib"
    libraries = [path for path in sorted(torch.glob("*.so")) if path.name not in NEVER_LOADED]
    present = {path.name for path in site_packages.glob("nvidia/**/*.so*")} | {path.name for path in torch.iterdir()}
    links = read_links(libraries)
    absent = sorted(name for name in links.needed - present if CUDA.match(name))
    for name in absent:
        version, symbols = symbols_of(name, links)
        compile_standin(name, symbols, version=version, folder=torch)
    return absent


def main() -> int:
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        print("cuda_standins: torch is not installed for this Python", file=sys.stderr)
        return 1
    made = make_standins(Path(found.origin).parents[1])
    print("cuda_standins: made " + (", ".join(made) or "nothing, all libraries are there"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

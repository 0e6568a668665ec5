"""A library that answers as `libnvidia-ml.so.1`, for machines without a GPU: what it says stands in a file.

It is compiled by gcc from `nvml.c` and found by `LD_LIBRARY_PATH`, so the bindings of `nvidia-ml-py` and everything
above them are the real ones. It knows the functions that the server asks, with the names and structures of `nvml.h`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")
STATE = "STANDIN_NVML_STATE"
# Return codes of NVML.
OK, NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST, UNKNOWN = 0, 3, 9, 15, 999
GIBIBYTE = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the library says of one GPU; the fields stand in the state's lines in this order."""

    total: int = 80 * GIBIBYTE
    used: int = 60 * GIBIBYTE
    utilization: int = 90
    temperature: int = 65
    power_milliwatts: int = 350_000
    throttle: int = 0
    ecc: int = 0
    pending: int = 0
    failure: int = 0
    advice: int = 0
    code: int = OK

    def line(self) -> str:
        return " ".join(str(getattr(self, name)) for name in self.__dataclass_fields__)


@dataclass
class Machine:
    """GPUs that are made up. `write` shows the library what is there; it looks at every call."""

    folder: Path
    cards: list[Card]
    init: int = OK
    hangs: bool = False
    events: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        build(self.folder)
        self.write()

    @property
    def environment(self) -> Mapping[str, str]:
        """With which a process finds the library and its state."""
        before = os.environ.get("LD_LIBRARY_PATH")
        path = str(self.folder) if not before else f"{self.folder}{os.pathsep}{before}"
        return {"LD_LIBRARY_PATH": path, STATE: str(self.folder / "state")}

    def write(self) -> None:
        lines = [f"init {self.init}", f"hangs {int(self.hangs)}"]
        lines += [f"gpu {card.line()}" for card in self.cards]
        lines += [f"xid {index} {code}" for index, code in self.events]
        draft = self.folder / "draft"
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(self.folder / "state")

    def change(self, index: int, **changes: int) -> None:
        """Something happens to one GPU."""
        self.cards[index] = replace(self.cards[index], **changes)
        self.write()

    def report(self, index: int, xid: int) -> None:
        """The driver reports an error of one GPU."""
        self.events.append((index, xid))
        self.write()


def uuid(index: int) -> str:
    """As the library names its GPUs."""
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def build(folder: Path) -> Path:
    """Compiles the library into the folder."""
    library = folder / "libnvidia-ml.so.1"
    if not library.exists():
        command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
    return library

"""What this process and the machine use, from the kernel (proc(5)). Empty where it tells nothing."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def resources() -> dict[str, float]:
    """Resident bytes of this process, bytes of the machine's memory that are free, runnable tasks per processor."""
    found: dict[str, float] = {}
    try:
        pages = int((_PROC / "self" / "statm").read_text().split()[1])
        found["process_resident_bytes"] = pages * os.sysconf("SC_PAGE_SIZE")
        lines = (line.split() for line in (_PROC / "meminfo").read_text().splitlines())
        found["memory_available_bytes"] = next(1024 * int(words[1]) for words in lines if words[0] == "MemAvailable:")
        found["processor_load"] = round(os.getloadavg()[0] / len(os.sched_getaffinity(0)), 4)
    except (OSError, ValueError, IndexError, StopIteration):
        pass  # not Linux, or a kernel that hides it
    return found

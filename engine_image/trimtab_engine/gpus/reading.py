"""What one look at the GPUs saw. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# Clocks event reasons of NVML (nvml.h), without those that are no limit.
THROTTLE = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One GPU. None: it does not tell.

    `utilization` is 0 to 1. `throttle` holds why its clocks are lowered. `ecc_uncorrected` counts since the driver was
    loaded. `repair_pending`: pages or rows of its memory are replaced at the next reset; `repair_failed`: that is not
    possible any more. `xids` are the driver's errors since the last look, `advice` what the driver recommends, `lost`
    NVML's words when the GPU does not answer at all, `trouble` when it does not answer a question.
    """

    index: int
    uuid: str
    name: str = ""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilization: float | None = None
    temperature_celsius: float | None = None
    slowdown_celsius: float | None = None
    power_watts: float | None = None
    throttle: tuple[str, ...] = ()
    ecc_uncorrected: int | None = None
    retired_pages: int | None = None
    remapped_rows: int | None = None
    repair_pending: bool | None = None
    repair_failed: bool | None = None
    advice: str = ""
    xids: tuple[int, ...] = ()
    lost: str = ""
    trouble: str = ""

    def label(self) -> str:
        return f"GPU {self.index} ({self.uuid})"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


_NAMES = frozenset(field.name for field in fields(Reading))


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All GPUs at one moment, or in `absent` one sentence why none could be read."""

    gpus: tuple[Reading, ...] = ()
    absent: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"gpus": [gpu.as_json() for gpu in self.gpus], "absent": self.absent}


def reading_from_json(document: Mapping[str, Any]) -> Reading:
    """The reading that `as_json` gave; what else stands in the document is left alone."""
    known = {name: value for name, value in document.items() if name in _NAMES}
    return Reading(**{**known, "throttle": tuple(known["throttle"]), "xids": tuple(known["xids"])})


def snapshot_from_json(document: Mapping[str, Any]) -> Snapshot:
    """The snapshot that `as_json` gave."""
    gpus = tuple(reading_from_json(gpu) for gpu in document["gpus"])
    return Snapshot(gpus=gpus, absent=str(document["absent"]))


def visible(snapshot: Snapshot, named: str | None) -> tuple[Reading, ...] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES names, in its order; all where it is not set, and none where it is empty. None
    where it names something else than GPUs of the snapshot, as with MIG, or one of them twice.

    Numbers are taken for NVML's, which CUDA's are with CUDA_DEVICE_ORDER=PCI_BUS_ID or when all GPUs are alike. UUIDs
    may be cut short (CUDA C++ Programming Guide, section on environment variables).
    """
    if named is None:
        return snapshot.gpus
    if not named.strip():
        return ()
    found = []
    for word in (part.strip() for part in named.split(",")):
        of_word = [gpu for gpu in snapshot.gpus if _is_named(gpu, word)]
        if len(of_word) != 1:
            return None
        found += of_word
    return tuple(found) if len({gpu.uuid for gpu in found}) == len(found) else None


def _is_named(gpu: Reading, word: str) -> bool:
    return gpu.index == int(word) if word.isdecimal() else word.startswith("GPU-") and gpu.uuid.startswith(word)
